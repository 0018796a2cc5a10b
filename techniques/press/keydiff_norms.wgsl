// 1 / ‖k‖ of every key, of no more than 1e12. One entry per invocation; neighbouring invocations read neighbouring words.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> keys: array<f32>; // [heads, HEAD_DIM, COLUMNS]
@group(0) @binding(2) var<storage, read_write> inverse: array<f32>; // [heads, COLUMNS]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let dims = min(HEAD_DIM, group.x + HEAD_DIM); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  let entry = group.y * 64u + local;
  if (entry >= lengths[group.x]) { return; }
  var squares = 0.0;
  for (var d = 0u; d < dims; d++) {
    let k = keys[(group.x * HEAD_DIM + d) * COLUMNS + entry];
    squares += k * k;
  }
  inverse[group.x * COLUMNS + entry] = 1.0 / max(sqrt(squares), 1e-12);
}
