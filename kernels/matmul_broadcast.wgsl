// Y = X Wᵀ for several rows, without workgroup memory: the product for adapters on which a gather costs more than arithmetic.
// A workgroup is one subgroup and makes ROWS (4 or 8) rows × 2·SUBGROUP columns. Each lane owns two columns and loads their weights;
// the activations are loaded once, one k per lane, and broadcast. X: [M, K], W: [N, K], Y: [M, N]. X and Y have room for whole tiles.
// With NORM each row of X is normalised on the way (kernels/input/norm.wgsl): its lanes together see the whole row.
//
// GATED: a lane's two columns are output n of `gate` and of `up` (W stacks them, N rows each) and make one output.
@group(0) @binding(0) var<storage, read> x: array<f32>;

// Rows 0–3 and 4–7 of the tile, for this lane's first and second column.
var<private> sum0: vec4f;
var<private> sum0_more: vec4f;
var<private> sum1: vec4f;
var<private> sum1_more: vec4f;

fn add(a: vec4f, a_more: vec4f, w0: f32, w1: f32) {
  sum0 = fma(a, vec4f(w0), sum0);
  sum1 = fma(a, vec4f(w1), sum1);
  if (ROWS > 4u) {
    sum0_more = fma(a_more, vec4f(w0), sum0_more);
    sum1_more = fma(a_more, vec4f(w1), sum1_more);
  }
}

// Mean and deviation of four rows from what the lanes have seen of them; lanes beyond the eighth repeat the first eight.
fn statistics_of_rows(total: vec4f, squares: vec4f) -> array<vec2f, 4> {
  if (NORM == 0u) { return array<vec2f, 4>(vec2f(0.0, 1.0), vec2f(0.0, 1.0), vec2f(0.0, 1.0), vec2f(0.0, 1.0)); }
  let copies = f32(SUBGROUP / 8u);
  let t = subgroupAdd(total) / copies;
  let s = subgroupAdd(squares) / copies;
  return array<vec2f, 4>(
    statistics_of(vec2f(t.x, s.x)), statistics_of(vec2f(t.y, s.y)), statistics_of(vec2f(t.z, s.z)), statistics_of(vec2f(t.w, s.w)),
  );
}

fn store_rows(m: u32, n0: u32, n1: u32, s0: vec4f, s1: vec4f, statistics: array<vec2f, 4>) {
  var of_row = statistics;
  for (var i = 0u; i < 4u; i++) {
    let at = of_row[i];
    if (GATED) {
      if (n0 < N) { store_gated(m + i, n0, normalised(s0[i], n0, at), normalised(s1[i], n0, at)); }
    } else {
      if (n0 < N) { store(m + i, n0, normalised(s0[i], n0, at)); }
      if (n1 < N) { store(m + i, n1, normalised(s1[i], n1, at)); }
    }
  }
}

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let m = group.y * ROWS;
  let n0 = group.x * select(2u, 1u, GATED) * SUBGROUP + lane;
  let n1 = select(n0 + SUBGROUP, n0, GATED);
  // Columns past the end repeat the last one and are not stored.
  let row0 = min(n0, N - 1u);
  let row1 = select(min(n1, N - 1u), N + row0, GATED);
  let k_lane = lane % 8u;
  let gain_at = gain_start(n0 - lane) * 4u;
  // Σ x and Σ x² of rows 0–3 and 4–7.
  var total = vec4f();
  var total_more = vec4f();
  var squares = vec4f();
  var squares_more = vec4f();
  for (var k = 0u; k < K / 8u; k++) {
    let at = m * X_STRIDE + X_FIRST + k * 8u + k_lane;
    var a = vec4f(x[at], x[at + X_STRIDE], x[at + 2u * X_STRIDE], x[at + 3u * X_STRIDE]);
    var b = vec4f();
    if (ROWS > 4u) { b = vec4f(x[at + 4u * X_STRIDE], x[at + 5u * X_STRIDE], x[at + 6u * X_STRIDE], x[at + 7u * X_STRIDE]); }
    if (NORM != 0u) {
      let g = gain1(gain_at + k * 8u + k_lane);
      total += a;
      squares = fma(a, a, squares);
      a *= g;
      total_more += b;
      squares_more = fma(b, b, squares_more);
      b *= g;
    }
    let w0 = weight8(row0, k);
    let w1 = weight8(row1, k);
    add(subgroupBroadcast(a, 0u), subgroupBroadcast(b, 0u), w0.lo.x, w1.lo.x);
    add(subgroupBroadcast(a, 1u), subgroupBroadcast(b, 1u), w0.lo.y, w1.lo.y);
    add(subgroupBroadcast(a, 2u), subgroupBroadcast(b, 2u), w0.lo.z, w1.lo.z);
    add(subgroupBroadcast(a, 3u), subgroupBroadcast(b, 3u), w0.lo.w, w1.lo.w);
    add(subgroupBroadcast(a, 4u), subgroupBroadcast(b, 4u), w0.hi.x, w1.hi.x);
    add(subgroupBroadcast(a, 5u), subgroupBroadcast(b, 5u), w0.hi.y, w1.hi.y);
    add(subgroupBroadcast(a, 6u), subgroupBroadcast(b, 6u), w0.hi.z, w1.hi.z);
    add(subgroupBroadcast(a, 7u), subgroupBroadcast(b, 7u), w0.hi.w, w1.hi.w);
  }
  store_rows(m, n0, n1, sum0, sum1, statistics_of_rows(total, squares));
  if (ROWS > 4u) { store_rows(m + 4u, n0, n1, sum0_more, sum1_more, statistics_of_rows(total_more, squares_more)); }
}
