// The fours of dimensions that a lane has of an entry: lane, lane + SUBGROUP, …
const LANE_QUADS = (HEAD_DIM / 4u + SUBGROUP - 1u) / SUBGROUP;

// Write the rotated key and the value of a row and KV head into the cache, as the `index`-th entry of a table, and what is noted beside it
// (`note`, a slot: note.wgsl, no_note.wgsl). `key` and `value` get what was stored.
fn append_row(
  row: u32, head: u32, table: u32, index: u32, lane: u32, key: ptr<function, array<vec4f, LANE_QUADS>>, value: ptr<function, array<vec4f, LANE_QUADS>>,
) {
  let entry = kv_entry(table, index);
  let at = key_start(row, head);
  let position = row_position(row);
  let scale = head_scale(at, lane);
  for (var j = 0u; j < LANE_QUADS; j++) {
    let quad = min(lane + j * SUBGROUP, HEAD_DIM / 4u - 1u);
    (*key)[j] = rotated4(at, quad, position, scale, true);
    (*value)[j] = plain4(value_start(row, head) + quad * 4u);
  }
  k_put(own_place(entry, index, table, head, row), lane, key);
  v_put(entry, lane, value);
  note(entry, position, lane, key);
  key_appended(entry, index, table, head, row, lane);
}
