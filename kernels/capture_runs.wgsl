// Rows of one sequence stand side by side, with offsets 0, 1, 2, …; a row behind the last has offset 0. How many there are from `row` on, at most `most`.
fn run_rows(row: u32, most: u32) -> u32 {
  var count = 1u;
  while (count < most && row + count < BATCH_ROWS && row_offset(row + count) == row_offset(row) + count) { count++; }
  return count;
}
