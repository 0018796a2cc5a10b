// score = (mean over the group of softmax(logits) + EPSILON) · ‖v‖, the norm only with VALUE_NORM (and EPSILON with it). One entry of a KV
// head (group.x) per invocation; the sinks get theirs later.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads / GROUP]
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [heads, COLUMNS]
@group(0) @binding(2) var<storage, read> statistics: array<vec2f>; // [heads]
@group(0) @binding(3) var<storage, read> values: array<f32>; // [heads / GROUP, HEAD_DIM, COLUMNS]
@group(0) @binding(4) var<storage, read_write> scores: array<f32>; // [heads / GROUP, COLUMNS]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let dims = min(HEAD_DIM, group.x + HEAD_DIM); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  let entry = group.y * 64u + local;
  if (entry < SINKS || entry >= lengths[group.x]) { return; }
  var score = 0.0;
  for (var head = group.x * GROUP; head < (group.x + 1u) * GROUP; head++) {
    let of_head = statistics[head];
    score += exp(logits[head * COLUMNS + entry] - of_head.x) / of_head.y;
  }
  score /= f32(GROUP);
  if (VALUE_NORM) {
    var squares = 0.0;
    for (var d = 0u; d < dims; d++) {
      let v = values[(group.x * HEAD_DIM + d) * COLUMNS + entry];
      squares += v * v;
    }
    score = (score + EPSILON) * sqrt(squares);
  }
  scores[group.x * COLUMNS + entry] = score;
}
