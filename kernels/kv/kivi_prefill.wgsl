// Prefill: rows of several blocks of a sequence attend in one step, each to its own block as f16. The keys of the step are kept by rows until
// it is over, and beside them a copy of the tail that the sequence came with, because the tail is about to become that of its last block.
fn recent_place(wanted: u32, index: u32, table: u32, head: u32, row: u32) -> u32 {
  let tail = STEP_TAILS + (row_sequence(row) * KV_HEADS + head) * BLOCK + wanted % BLOCK;
  return select(tail, STEP_ROWS + (row + wanted - index) * KV_HEADS + head, wanted >= lengths[table]);
}
