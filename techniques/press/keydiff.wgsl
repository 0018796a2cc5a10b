// score = −cos(k, anchor); an anchor or a key of no length counts as one of length 1e-8 or 1e-12. One entry per invocation.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> keys: array<f32>; // [heads, HEAD_DIM, COLUMNS]
@group(0) @binding(2) var<storage, read> inverse: array<f32>; // [heads, COLUMNS]
@group(0) @binding(3) var<storage, read> anchor: array<f32>; // [heads, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> scores: array<f32>; // [heads, COLUMNS]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let dims = min(HEAD_DIM, group.x + HEAD_DIM); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  let entry = group.y * 64u + local;
  if (entry >= lengths[group.x]) { return; }
  var product = 0.0;
  var squares = 0.0;
  for (var d = 0u; d < dims; d++) {
    let a = anchor[group.x * HEAD_DIM + d];
    product += a * keys[(group.x * HEAD_DIM + d) * COLUMNS + entry];
    squares += a * a;
  }
  scores[group.x * COLUMNS + entry] = -product * inverse[group.x * COLUMNS + entry] / max(sqrt(squares), 1e-8);
}
