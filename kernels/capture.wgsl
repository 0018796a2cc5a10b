// Rotated queries out of the fused projection: one subgroup per (row, query head), workgroups (head, row). Where a row's queries go is a
// slot: row of `out`, or NOWHERE (capture_window.wgsl, capture_rows.wgsl). kernels/rotate.wgsl does the work.
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>; // rows of [HEADS, QUADS]

const QUADS = HEAD_DIM / 4u; // vec4 per head
const NOWHERE = 0xffffffffu;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let place = place_of(group.y);
  if (place == NOWHERE) { return; }
  let at = query_start(group.y, group.x);
  let scale = head_scale(at, lane);
  for (var quad = lane; quad < QUADS; quad += SUBGROUP) {
    out[(place * HEADS + group.x) * QUADS + quad] = rotated4(at, quad, row_position(group.y), scale, false);
  }
}
