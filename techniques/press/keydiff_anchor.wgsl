// One dimension (group.y) of the mean of k / ‖k‖ over the entries of a head (group.x).
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> keys: array<f32>; // [heads, HEAD_DIM, COLUMNS]
@group(0) @binding(2) var<storage, read> inverse: array<f32>; // [heads, COLUMNS]
@group(0) @binding(3) var<storage, read_write> anchor: array<f32>; // [heads, HEAD_DIM]

const SUBGROUPS = WORKGROUP / SUBGROUP;
var<workgroup> partial: array<f32, SUBGROUPS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let n = lengths[group.x];
  let row = group.x * HEAD_DIM + group.y;
  var own = 0.0;
  for (var i = local; i < n; i += WORKGROUP) { own += keys[row * COLUMNS + i] * inverse[group.x * COLUMNS + i]; }
  var sum = subgroupAdd(own);
  if (SUBGROUPS > 1u) {
    if (local % SUBGROUP == 0u) { partial[local / SUBGROUP] = sum; }
    workgroupBarrier();
    sum = 0.0;
    for (var i = 0u; i < SUBGROUPS; i++) { sum += partial[i]; }
  }
  if (local == 0u) { anchor[row] = sum / f32(max(n, 1u)); }
}
