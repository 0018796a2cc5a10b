// Decoding: every row is of another sequence, so the workgroup that attends rotates its own queries and appends its own key and value.
fn query4(row: u32, head: u32, unit: u32, scale: f32) -> vec4f {
  return rotated4(query_start(row, head), unit, row_position(row), scale, false);
}
fn query_scale(row: u32, head: u32, lane: u32) -> f32 { return head_scale(query_start(row, head), lane); }
fn append_own(row: u32, head: u32, table: u32, local: u32) {
  if (local < SUBGROUP) { append_row(row, head, table, local); }
  storageBarrier(); // the whole workgroup reads what its first subgroup wrote
}
