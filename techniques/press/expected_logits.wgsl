// log E[exp(q · k / √d)] of a normal query: μ · k / √d + kᵀ Σ k / 2 d, SCALE being 1 / √d. One entry for a query head (group.x) per
// invocation; Σ is symmetric, and its columns are taken eight at a time.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads / GROUP]
@group(0) @binding(1) var<storage, read> keys: array<f32>; // [heads / GROUP, HEAD_DIM, COLUMNS]
@group(0) @binding(2) var<storage, read> mean: array<f32>; // [heads, HEAD_DIM]
@group(0) @binding(3) var<storage, read> spread: array<vec4f>; // [heads, HEAD_DIM, WIDTH / 4]
@group(0) @binding(4) var<storage, read_write> logits: array<f32>; // [heads, COLUMNS]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let dims = min(HEAD_DIM, group.x + HEAD_DIM); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  let head = group.x;
  let entry = group.y * 64u + local;
  if (entry >= lengths[head / GROUP]) { return; }
  let first = head / GROUP * HEAD_DIM * COLUMNS + entry;
  var logit = 0.0;
  for (var d = 0u; d < dims; d++) { logit += SCALE * mean[head * HEAD_DIM + d] * keys[first + d * COLUMNS]; }
  if (COVARIANCE) {
    for (var column = 0u; column < dims; column += 8u) {
      var low = vec4f();
      var high = vec4f();
      for (var d = 0u; d < dims; d++) {
        let k = SCALE * keys[first + d * COLUMNS];
        let at = ((head * HEAD_DIM + d) * WIDTH + column) / 4u;
        low += k * spread[at];
        high += k * spread[at + 1u];
      }
      for (var i = 0u; i < min(8u, HEAD_DIM - column); i++) {
        logit += 0.5 * SCALE * keys[first + (column + i) * COLUMNS] * select(high[i % 4u], low[i % 4u], i < 4u);
      }
    }
  }
  logits[head * COLUMNS + entry] = logit;
}
