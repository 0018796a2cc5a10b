@group(0) @binding(3) var<storage, read_write> k_pool: array<kv8>; // [entries, HEAD_DIM / 8]: loads of 16 bytes in 16-bit formats
@group(0) @binding(4) var<storage, read_write> v_pool: array<kv8>;

// The unit-th eight dimensions of an entry.
fn put_entry(entry: u32, unit: u32, k: Dims8, v: Dims8) {
  k_pool[entry * (HEAD_DIM / 8u) + unit] = kv_pack8(k);
  v_pool[entry * (HEAD_DIM / 8u) + unit] = kv_pack8(v);
}
