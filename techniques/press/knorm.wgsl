// score = −‖k‖. One entry per invocation.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> norms: array<f32>; // [heads, COLUMNS]
@group(0) @binding(2) var<storage, read_write> scores: array<f32>; // [heads, COLUMNS]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let entry = group.y * 64u + local;
  if (entry >= lengths[group.x]) { return; }
  scores[group.x * COLUMNS + entry] = -norms[group.x * COLUMNS + entry];
}
