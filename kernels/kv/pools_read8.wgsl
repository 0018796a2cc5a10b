@group(0) @binding(3) var<storage, read> k_pool: array<kv8>; // [entries, HEAD_DIM / 8]: loads of 16 bytes in 16-bit formats
@group(0) @binding(4) var<storage, read> v_pool: array<kv8>;
