// Rotate and append, for rows that attend to each other: the rotated queries of every row go to `q`, its rotated keys and its values
// into the cache. One subgroup per (row, head): workgroup x is a query head, then a KV head. rotate.wgsl and append_row.wgsl do the work.
@group(0) @binding(1) var<storage, read_write> q: array<vec4f>; // [rows, HEADS, QUADS]

const QUADS = HEAD_DIM / 4u; // vec4 per head

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  if (group.x >= HEADS) {
    let head = group.x - HEADS;
    let table = table_of(row_sequence(row), head);
    var key = array<vec4f, LANE_QUADS>();
    var value = array<vec4f, LANE_QUADS>();
    // Behind what the table holds and the rows of this step before this one.
    append_row(row, head, table, lengths[table] + row_offset(row), lane, &key, &value);
    return;
  }
  let at = query_start(row, group.x);
  let scale = head_scale(at, lane);
  for (var quad = lane; quad < QUADS; quad += SUBGROUP) {
    q[(row * HEADS + group.x) * QUADS + quad] = rotated4(at, quad, row_position(row), scale, false);
  }
}
