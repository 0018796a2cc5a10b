// Decoding without a barrier: the subgroup that attends holds the row's own key and value, begins with them, and puts them into the cache.
const ATTENDS_OWN = true;
fn own_scale(row: u32, head: u32, lane: u32) -> f32 { return head_scale(key_start(row, head), lane); }
fn own_key(row: u32, head: u32, quad: u32, scale: f32) -> kv4 {
  return kv_pack(rotated4(key_start(row, head), quad, row_position(row), scale, true));
}
fn own_value(row: u32, head: u32, quad: u32) -> kv4 { return kv_pack(plain4(value_start(row, head) + quad * 4u)); }
fn put_own(at: u32, key: kv4, value: kv4) {
  k_pool[at] = key;
  v_pool[at] = value;
}
