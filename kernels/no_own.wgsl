// An earlier dispatch has appended the keys and values of all rows.
const ATTENDS_OWN = false;
fn attend_own(
  row: u32, head: u32, table: u32, index: u32, lane: u32, key: ptr<function, array<vec4f, OWN>>, value: ptr<function, array<vec4f, OWN>>,
) {}
fn append_own(row: u32, head: u32, table: u32, index: u32, local: u32) {}
