// The queries of wanted positions, in a window of WINDOW rows for each slot that goes round. Where a step brings several rows for the same
// place, the last of them has it.
@group(0) @binding(10) var<storage, read> control: array<u32>; // [slots, CONTROL]: first position wanted, how many

fn place_of(row: u32) -> u32 {
  let slot = row_sequence(row);
  let wanted = row_position(row) - control[slot * CONTROL]; // of positions before the first: beyond any number of them
  let many = control[slot * CONTROL + 1u];
  if (wanted >= many) { return NOWHERE; }
  let newer = row + WINDOW;
  if (wanted + WINDOW < many && newer < BATCH_ROWS && row_offset(newer) == row_offset(row) + WINDOW) { return NOWHERE; }
  return slot * WINDOW + row_position(row) % WINDOW;
}
