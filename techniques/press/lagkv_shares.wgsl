// Softmax of the deviations over an entry's partition, of keys and of values, and the mean of the two. One entry per invocation.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> deviations: array<vec2f>; // [heads, COLUMNS]
@group(0) @binding(2) var<storage, read_write> shares: array<f32>; // [heads, COLUMNS]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lag = min(LAG, group.x + LAG); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  let head = group.x;
  let entry = group.y * 64u + local;
  if (entry < SINKS) { return; }
  let part = (entry - SINKS) / LAG;
  if (part >= measured(lengths[head])) { return; }
  let first = head * COLUMNS + SINKS + part * LAG;
  var most = vec2f(); // no deviation is below 0
  for (var i = 0u; i < lag; i++) { most = max(most, deviations[first + i]); }
  var sum = vec2f();
  for (var i = 0u; i < lag; i++) { sum += exp(deviations[first + i] - most); }
  let share = exp(deviations[head * COLUMNS + entry] - most) / sum;
  shares[head * COLUMNS + entry] = 0.5 * (share.x + share.y);
}
