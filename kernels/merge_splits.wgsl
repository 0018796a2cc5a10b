// What the splits of long rows have left (splits.wgsl), merged in index order: one subgroup per row and query head.
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>; // rows of OUT vec4 that begin with [HEADS, UNITS]

const UNITS = HEAD_DIM / 4u; // vec4 per head

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let query_head = group.x;
  let row = group.y;
  let splits = splits_of(lengths[table_of(row_sequence(row), query_head / GROUP)] + row_offset(row) + 1u);
  if (splits == 1u) { return; }
  let first = (row * HEADS + query_head) * SPLITS * (UNITS + 1u);
  var top = partials[first + UNITS].x;
  for (var s = 1u; s < splits; s++) { top = max(top, partials[first + s * (UNITS + 1u) + UNITS].x); }
  var mass = 0.0;
  for (var s = 0u; s < splits; s++) {
    let part = partials[first + s * (UNITS + 1u) + UNITS];
    mass += part.y * exp(part.x - top);
  }
  for (var unit = lane; unit < UNITS; unit += SUBGROUP) {
    var sum = vec4f();
    for (var s = 0u; s < splits; s++) {
      let at = first + s * (UNITS + 1u);
      sum += partials[at + unit] * exp(partials[at + UNITS].x - top);
    }
    out[row * OUT + query_head * UNITS + unit] = sum / mass;
  }
}
