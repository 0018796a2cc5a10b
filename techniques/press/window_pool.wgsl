// score = the mean of an entry's weight and its neighbours', KERNEL in all, zeros beyond both ends of what was voted on; with ALL_HEADS the
// mean over the heads of the layer that have the entry. One entry of a KV head (group.x) per invocation.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [HEADS]
@group(0) @binding(1) var<storage, read> weights: array<f32>; // [HEADS, COLUMNS]
@group(0) @binding(2) var<storage, read_write> scores: array<f32>; // [HEADS, COLUMNS]

fn pooled(head: u32, entry: u32, voted: u32) -> f32 {
  var sum = 0.0;
  for (var i = max(entry, KERNEL / 2u) - KERNEL / 2u; i < min(entry + KERNEL / 2u + 1u, voted); i++) { sum += weights[head * COLUMNS + i]; }
  return sum / f32(KERNEL);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let entry = group.y * 64u + local;
  let n = lengths[group.x];
  if (entry + WINDOW >= n) { return; }
  var score = 0.0;
  if (ALL_HEADS) {
    var heads = 0.0;
    for (var h = 0u; h < HEADS; h++) {
      if (entry + WINDOW >= lengths[h]) { continue; }
      score += pooled(h, entry, lengths[h] - WINDOW);
      heads += 1.0;
    }
    score /= heads;
  } else {
    score = pooled(group.x, entry, n - WINDOW);
  }
  scores[group.x * COLUMNS + entry] = score;
}
