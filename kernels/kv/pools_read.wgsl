@group(0) @binding(3) var<storage, read> k_pool: array<kv4>; // [entries, HEAD_DIM / 4]
@group(0) @binding(4) var<storage, read> v_pool: array<kv4>;
