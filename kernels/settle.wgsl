// Behind append.wgsl, for keys that are quantized by blocks (kv/kivi.wgsl): quantize every block that this step completes, and leave the
// keys of a block that it does not in the sequence's tail. One subgroup per (row, KV head); most find nothing to do.
@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let head = group.x;
  let table = table_of(row_sequence(row), head);
  let before = lengths[table];
  let index = before + row_offset(row);
  if ((index + 1u) % BLOCK == 0u) {
    k_settle(kv_entry(table, index), index, table, head, row, lane);
    return;
  }
  // Rows behind the last have offset 0, as the first of a sequence has.
  if (row + 1u < BATCH_ROWS && row_offset(row + 1u) != 0u) { return; }
  for (var i = max(index / BLOCK * BLOCK, before); i <= index; i++) {
    let place = recent_place(i, index, table, head, row);
    for (var unit = lane; unit < K_UNITS; unit += SUBGROUP) { k_pool[(table * BLOCK + i % BLOCK) * K_UNITS + unit] = k_pool[place * K_UNITS + unit]; }
  }
}
