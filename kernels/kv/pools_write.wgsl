@group(0) @binding(3) var<storage, read_write> k_pool: array<kv4>; // [entries, HEAD_DIM / 4]
@group(0) @binding(4) var<storage, read_write> v_pool: array<kv4>;

// The unit-th eight dimensions of an entry.
fn put_entry(entry: u32, unit: u32, k: Dims8, v: Dims8) {
  let at = entry * (HEAD_DIM / 4u) + unit * 2u;
  k_pool[at] = kv_pack(k.lo);
  k_pool[at + 1u] = kv_pack(k.hi);
  v_pool[at] = kv_pack(v.lo);
  v_pool[at + 1u] = kv_pack(v.hi);
}
