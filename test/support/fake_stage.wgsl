// score = |norm − mean of the head's norms|, or with MEAN false the norm itself; of the other sign where params[0] is odd. norms, scores:
// [HEADS, COLUMNS]. Workgroup (x, y) scores entries 64 y … 64 y + 63 of head x, an invocation each.
@group(0) @binding(0) var<storage, read> lengths: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<f32>;
@group(0) @binding(2) var<storage, read> norms: array<f32>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let length = lengths[group.x];
  let entry = group.y * 64u + local;
  if (entry >= length) { return; }
  let row = group.x * COLUMNS;
  var score = norms[row + entry];
  if (MEAN) {
    var sum = 0.0;
    for (var i = 0u; i < length; i++) { sum += norms[row + i]; }
    score = abs(score - sum / f32(length));
  }
  scores[row + entry] = select(score, -score, u32(params[0]) % 2u == 1u);
}
