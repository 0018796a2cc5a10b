// Queries that an earlier dispatch has rotated.
@group(0) @binding(0) var<storage, read> q: array<vec4f>; // [rows, HEADS, QUADS]

fn query4(row: u32, head: u32, quad: u32, scale: f32) -> vec4f { return q[(row * HEADS + head) * QUADS + quad]; }
fn query_scale(row: u32, head: u32, lane: u32) -> f32 { return 1.0; }
