// The first row of a sequence copies the tail that the sequence has (kivi_prefill.wgsl says why).
fn key_appended(entry: u32, index: u32, table: u32, head: u32, row: u32, lane: u32) {
  if (row_offset(row) != 0u) { return; }
  let tail = table * BLOCK * K_UNITS;
  let copy = (STEP_TAILS + (row_sequence(row) * KV_HEADS + head) * BLOCK) * K_UNITS;
  for (var i = lane; i < index % BLOCK * K_UNITS; i += SUBGROUP) { k_pool[copy + i] = k_pool[tail + i]; }
}
