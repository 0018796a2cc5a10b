// The score of an entry: its share, or (unless CROSS) how many of its partition have less, / LAG; sinks, last partition and rest 1, rising
// by RISE towards the newest, and the sinks above. Without a partition that is measured: its place behind the sinks, over their number. One
// entry per invocation.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> shares: array<f32>; // [heads, COLUMNS]
@group(0) @binding(2) var<storage, read_write> scores: array<f32>; // [heads, COLUMNS]

// Of equal shares the first is lower.
fn rank(first: u32, own: u32, lag: u32) -> f32 {
  let share = shares[own];
  var below = 0u;
  for (var i = first; i < first + lag; i++) {
    let other = shares[i];
    below += select(0u, 1u, other < share || (other == share && i < own));
  }
  return f32(below) / f32(LAG);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lag = min(LAG, group.x + LAG); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  let head = group.x;
  let entry = group.y * 64u + local;
  let n = lengths[head];
  if (entry >= n) { return; }
  let own = head * COLUMNS + entry;
  let tail = SINKS + measured(n) * LAG;
  if (entry < SINKS) {
    scores[own] = 1.0 + RISE * f32(n - min(n, tail));
  } else if (measured(n) == 0u) {
    scores[own] = f32(entry - SINKS) / f32(n - SINKS);
  } else if (entry >= tail) {
    scores[own] = 1.0 + RISE * f32(entry - tail);
  } else if (CROSS) {
    scores[own] = shares[own];
  } else {
    scores[own] = rank(own - (entry - SINKS) % LAG, own, lag);
  }
}
