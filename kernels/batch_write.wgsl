@group(0) @binding(9) var<storage, read_write> batch: array<u32>;

// The row goes on with its new token: the next step reads what this one sampled.
fn next_row(row: u32, token: u32) {
  batch[BATCH_HEADER + row] = token;
  batch[BATCH_HEADER + BATCH_ROWS + row] += 1u;
}
