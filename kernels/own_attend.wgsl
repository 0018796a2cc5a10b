// Decoding without a barrier: the subgroup that attends puts the row's own key and value into the cache, and begins with what was stored.
const ATTENDS_OWN = true;
fn attend_own(
  row: u32, head: u32, table: u32, index: u32, lane: u32, key: ptr<function, array<vec4f, OWN>>, value: ptr<function, array<vec4f, OWN>>,
) {
  append_row(row, head, table, index, lane, key, value);
}
