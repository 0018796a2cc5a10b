// Decoding on a GPU: the workgroup that attends appends the row's own key and value, and reads them like all others.
fn append_own(row: u32, head: u32, table: u32, index: u32, local: u32) {
  if (local >= SUBGROUP) { return; }
  var key = array<vec4f, LANE_QUADS>();
  var value = array<vec4f, LANE_QUADS>();
  append_row(row, head, table, index, local, &key, &value);
}
