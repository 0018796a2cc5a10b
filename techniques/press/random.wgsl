// A uniform number in [0, 1) for each entry: a hash of its index, its head, its layer, and the seed moved on by how often the press has
// acted.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> params: array<f32>; // layer, acted
@group(0) @binding(2) var<storage, read_write> scores: array<f32>; // [heads, COLUMNS]

// pcg4d (Jarzynski and Olano 2020).
fn hash(value: vec4u) -> u32 {
  var v = value * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> vec4u(16u);
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v.x;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let entry = group.y * 64u + local;
  if (entry >= lengths[group.x]) { return; }
  let bits = hash(vec4u(entry, group.x, u32(params[0]), SEED + u32(params[1]) * 0x9e3779b9u));
  scores[group.x * COLUMNS + entry] = f32(bits >> 8u) * 5.9604644775390625e-8;
}
