// The keep-th highest score. The threshold is the greatest number that at least `keep` scores reach; it is found two bits at a time,
// highest first, each time by counting how many scores reach the three continuations. 16 passes over the scores, in any order of lanes.
@group(0) @binding(3) var<storage, read> keep: array<u32>; // [HEADS], f32 if KEEP_IS_FLOAT; TOGETHER: [1]

fn threshold_of(first: u32, end: u32, local: u32) -> vec2u {
  var all = 0u;
  for (var head = first; head < end; head++) { all += lengths[head]; }
  var wanted = keep[first];
  if (KEEP_IS_FLOAT) { wanted = u32(clamp(bitcast<f32>(wanted), 0.0, 4.0e9)); }
  wanted = min(wanted, all);
  var prefix = 0u;
  var above = 0u; // scores that reach the next number with as many bits as `prefix`
  for (var turn = 0u; turn < 16u; turn++) {
    let step = 1u << (30u - 2u * turn);
    var counts = vec4u();
    for (var head = first; head < end; head++) { counts += count_from(prefix + step * vec4u(1u, 2u, 3u, 0u), head, local); }
    counts = total(counts, local);
    counts.w = above;
    let digit = select(0u, 1u, counts.x >= wanted) + select(0u, 1u, counts.y >= wanted) + select(0u, 1u, counts.z >= wanted);
    prefix += digit * step;
    above = counts[digit];
  }
  return vec2u(prefix, wanted - above);
}
