// Queries that an earlier dispatch has rotated, of rows whose keys it has appended.
@group(0) @binding(0) var<storage, read> q: array<vec4f>; // [rows, HEADS, UNITS]

const UNITS = HEAD_DIM / 4u; // vec4 per head

fn query4(row: u32, head: u32, unit: u32, scale: f32) -> vec4f { return q[(row * HEADS + head) * UNITS + unit]; }
fn query_scale(row: u32, head: u32, lane: u32) -> f32 { return 1.0; }
fn append_own(row: u32, head: u32, table: u32, local: u32) {}
