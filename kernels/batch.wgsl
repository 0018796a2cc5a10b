// The batch of a step, one u32 buffer (see kernels/batch.ts for who writes what):
//   step | ids[ROWS] | positions[ROWS] | sequences[ROWS] | offsets[ROWS] | tiles[ROWS] | samples[ROWS]
// A row is one token. `offset` counts the rows of the same sequence before it in this step. A tile is a run of rows of one sequence
// that attend together: first row in the low 24 bits, their number above. A sample names a row whose next token is wanted.
fn row_token(row: u32) -> u32 { return batch[BATCH_HEADER + row]; }
fn row_position(row: u32) -> u32 { return batch[BATCH_HEADER + BATCH_ROWS + row]; }
fn row_sequence(row: u32) -> u32 { return batch[BATCH_HEADER + 2u * BATCH_ROWS + row]; }
fn row_offset(row: u32) -> u32 { return batch[BATCH_HEADER + 3u * BATCH_ROWS + row]; }
fn tile_first(tile: u32) -> u32 { return batch[BATCH_HEADER + 4u * BATCH_ROWS + tile] & 0xffffffu; }
fn tile_rows(tile: u32) -> u32 { return batch[BATCH_HEADER + 4u * BATCH_ROWS + tile] >> 24u; }
fn sample_row(sample: u32) -> u32 { return batch[BATCH_HEADER + 5u * BATCH_ROWS + sample]; }
