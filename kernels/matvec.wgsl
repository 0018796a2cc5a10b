// y = W x for one row of activations. Lanes of a subgroup run along K and share ROWS (4 or 8) rows of W, so each activation is loaded
// once for all of them; no workgroup memory, no barrier. W: [N, K], x: [K], y: [N]. With NORM the input is normalised on the way: every
// subgroup sees all of x, so its mean and square come for free (kernels/input/norm.wgsl).
//
// GATED: W stacks `gate` over `up` (N rows each). A subgroup then takes four rows of each and stores four outputs.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;

fn dot8(w: Weights8, lo: vec4f, hi: vec4f) -> f32 { return dot(w.lo, lo) + dot(w.hi, hi); }

// Row of W for the i-th of the subgroup's rows. Rows past the end repeat the last one and are not stored.
fn row_of(first: u32, i: u32) -> u32 {
  if (GATED && i >= 4u) { return N + min(first + i - 4u, N - 1u); }
  return min(first + i, N - 1u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = local % SUBGROUP;
  let first = (group.x * (WORKGROUP / SUBGROUP) + local / SUBGROUP) * select(ROWS, 4u, GATED);
  if (first >= N) { return; }
  let row0 = row_of(first, 0u);
  let row1 = row_of(first, 1u);
  let row2 = row_of(first, 2u);
  let row3 = row_of(first, 3u);
  let row4 = row_of(first, 4u);
  let row5 = row_of(first, 5u);
  let row6 = row_of(first, 6u);
  let row7 = row_of(first, 7u);
  var sum = vec4f(); // rows 0–3
  var more = vec4f(); // rows 4–7
  var moments = vec2f(); // Σ x, Σ x²
  let gain_at = gain_start(first);
  for (var k = lane; k < K / 8u; k += SUBGROUP) {
    var lo = x[X_FIRST / 4u + k * 2u];
    var hi = x[X_FIRST / 4u + k * 2u + 1u];
    if (NORM != 0u) {
      moments += vec2f(dot(lo + hi, vec4f(1.0)), dot(lo, lo) + dot(hi, hi));
      lo *= gain4(gain_at + k * 2u);
      hi *= gain4(gain_at + k * 2u + 1u);
    }
    sum += vec4f(dot8(weight8(row0, k), lo, hi), dot8(weight8(row1, k), lo, hi), dot8(weight8(row2, k), lo, hi), dot8(weight8(row3, k), lo, hi));
    if (ROWS > 4u) {
      more += vec4f(dot8(weight8(row4, k), lo, hi), dot8(weight8(row5, k), lo, hi), dot8(weight8(row6, k), lo, hi), dot8(weight8(row7, k), lo, hi));
    }
  }
  sum = subgroupAdd(sum);
  if (ROWS > 4u) { more = subgroupAdd(more); }
  if (NORM != 0u) { moments = subgroupAdd(moments); }
  if (lane != 0u) { return; }
  let statistics = statistics_of(moments);
  for (var i = 0u; i < 4u; i++) {
    let n = first + i;
    if (GATED) {
      if (n < N) { store_gated(0u, n, normalised(sum[i], n, statistics), normalised(more[i], n, statistics)); }
    } else {
      if (n < N) { store(0u, n, normalised(sum[i], n, statistics)); }
      if (ROWS > 4u && n + 4u < N) { store(0u, n + 4u, normalised(more[i], n + 4u, statistics)); }
    }
  }
}
