// What the splits of long rows have left (splits.wgsl), merged in index order: one subgroup per row and query head.
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>; // rows of OUT vec4 that begin with [HEADS, QUADS]

const QUADS = HEAD_DIM / 4u; // vec4 per head

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let query_head = group.x;
  let row = group.y;
  let splits = splits_of(lengths[table_of(row_sequence(row), query_head / GROUP)] + row_offset(row) + 1u);
  if (splits == 1u) { return; }
  let first = (row * HEADS + query_head) * SPLITS * (QUADS + 1u);
  var top = partials[first + QUADS].x;
  for (var s = 1u; s < splits; s++) { top = max(top, partials[first + s * (QUADS + 1u) + QUADS].x); }
  var mass = 0.0;
  for (var s = 0u; s < splits; s++) {
    let part = partials[first + s * (QUADS + 1u) + QUADS];
    mass += part.y * exp2(part.x - top);
  }
  for (var quad = lane; quad < QUADS; quad += SUBGROUP) {
    var sum = vec4f();
    for (var s = 0u; s < splits; s++) {
      let at = first + s * (QUADS + 1u);
      sum += partials[at + quad] * exp2(partials[at + QUADS].x - top);
    }
    out[row * OUT + query_head * QUADS + quad] = sum / mass;
  }
}
