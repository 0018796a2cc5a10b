// Decoding: every row is of another sequence, so the workgroup that attends rotates its own queries.
fn query4(row: u32, head: u32, quad: u32, scale: f32) -> vec4f {
  return rotated4(query_start(row, head), quad, row_position(row), scale, false);
}
fn query_scale(row: u32, head: u32, lane: u32) -> f32 { return head_scale(query_start(row, head), lane); }
