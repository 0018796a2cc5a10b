// Y = X Wᵀ for 1 to 8 rows of activations, for GPUs: each weight is read once from memory and used for every row. Lanes of a subgroup
// run along K and share ROWS rows of W, and each lane issues ROWS·UNROLL loads of a unit of weights before it uses the first, since what
// bounds this product is how many bytes are under way. Where there are too few outputs to keep the device busy, SPLIT_K subgroups of a
// workgroup share the K of their rows and add up through workgroup memory. BATCH rows of X: [M, K], W: [N, K], Y: [M, N]. With NORM
// the rows of X are normalised on the way (kernels/input/norm.wgsl): every subgroup, or its SPLIT_K together, see all of them.
//
// GATED: W stacks `gate` over `up` (N rows each). Half of a subgroup's rows are of `gate`, the others the same of `up`.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;

const OUTPUTS = select(ROWS, ROWS / 2u, GATED); // of a subgroup, for each row of X
const CELLS = OUTPUTS * BATCH;
const PASSES = (CELLS + SUBGROUP - 1u) / SUBGROUP; // in which the lanes store them, one each
const UNITS = K / 8u / UNIT8;
const STRIDE = SUBGROUP * SPLIT_K; // in units
const STEPS = (UNITS + STRIDE * UNROLL - 1u) / (STRIDE * UNROLL);
const WHOLE = UNITS % (STRIDE * UNROLL) == 0u; // the last step is as full as the others

// Per subgroup and cell: the product, that of `up`, Σ x, Σ x².
var<workgroup> partial: array<vec4f, select(1u, WORKGROUP / SUBGROUP * CELLS, SPLIT_K > 1u)>;

// The subgroup's i-th row of W. Rows past the end repeat the last one and are not stored.
fn row_of(first: u32, i: u32) -> u32 {
  if (GATED && i >= OUTPUTS) { return N + min(first + i - OUTPUTS, N - 1u); }
  return min(first + i, N - 1u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = local % SUBGROUP;
  let subgroup = local / SUBGROUP;
  let part = subgroup % SPLIT_K;
  let first = (group.x * (WORKGROUP / SUBGROUP / SPLIT_K) + subgroup / SPLIT_K) * OUTPUTS;
  let m = group.y * BATCH;
  let x_at = (m * X_STRIDE + X_FIRST) / 4u;
  let gain_at = gain_start(min(first, N - 1u));
  var row = array<u32, ROWS>();
  for (var r = 0u; r < ROWS; r++) { row[r] = row_of(first, r); }
  var sum = array<f32, BATCH * ROWS>();
  var moments = array<vec2f, BATCH>(); // Σ x, Σ x²
  weights_begin(lane);
  for (var step = 0u; step < STEPS; step++) {
    let start = step * STRIDE * UNROLL + part * SUBGROUP + lane;
    var raw = array<RawWeights, UNROLL * ROWS>();
    var scale = array<f32, UNROLL * ROWS>();
    for (var u = 0u; u < UNROLL; u++) {
      let unit = select(min(start + u * STRIDE, UNITS - 1u), start + u * STRIDE, WHOLE);
      for (var r = 0u; r < ROWS; r++) {
        raw[u * ROWS + r] = raw_weights(row[r], unit);
        if (SCALED) { scale[u * ROWS + r] = unit_scale(row[r], unit); }
      }
    }
    for (var u = 0u; u < UNROLL; u++) {
      let inside = WHOLE || start + u * STRIDE < UNITS; // past the end, weights count nothing
      for (var i = 0u; i < UNIT8; i++) {
        let k = select(0u, (start + u * STRIDE) * UNIT8 + i, inside);
        var w = array<Weights8, ROWS>();
        for (var r = 0u; r < ROWS; r++) { w[r] = weights8(raw[u * ROWS + r], i); }
        var gain_lo = vec4f(1.0);
        var gain_hi = vec4f(1.0);
        if (NORM != 0u) {
          gain_lo = gain4(gain_at + k * 2u);
          gain_hi = gain4(gain_at + k * 2u + 1u);
        }
        for (var b = 0u; b < BATCH; b++) {
          let at = x_at + b * (X_STRIDE / 4u) + k * 2u;
          var lo = select(vec4f(), x[at], inside);
          var hi = select(vec4f(), x[at + 1u], inside);
          if (NORM != 0u) {
            moments[b] += vec2f(dot(lo + hi, vec4f(1.0)), dot(lo, lo) + dot(hi, hi));
            lo *= gain_lo;
            hi *= gain_hi;
          }
          for (var r = 0u; r < ROWS; r++) {
            let product = dot(w[r].lo, lo) + dot(w[r].hi, hi);
            if (SCALED) { sum[b * ROWS + r] = fma(product, scale[u * ROWS + r], sum[b * ROWS + r]); } else { sum[b * ROWS + r] += product; }
          }
        }
      }
    }
  }
  if (ROW_SCALED) {
    for (var r = 0u; r < ROWS; r++) {
      let whole = row_scale(row[r]);
      for (var b = 0u; b < BATCH; b++) { sum[b * ROWS + r] *= whole; }
    }
  }
  // Each lane takes one cell, so that the cells' loads and stores do not wait for each other.
  var mine = array<vec4f, PASSES>();
  for (var b = 0u; b < BATCH; b++) {
    var seen = vec2f();
    if (NORM != 0u) { seen = subgroupAdd(moments[b]); }
    for (var o = 0u; o < OUTPUTS; o++) {
      let value = subgroupAdd(sum[b * ROWS + o]);
      var up = 0.0;
      if (GATED) { up = subgroupAdd(sum[b * ROWS + (ROWS - OUTPUTS) + o]); }
      let cell = b * OUTPUTS + o;
      if (lane == cell % SUBGROUP) { mine[cell / SUBGROUP] = vec4f(value, up, seen); }
    }
  }
  if (SPLIT_K > 1u) {
    for (var p = 0u; p < PASSES; p++) {
      let cell = p * SUBGROUP + lane;
      if (cell < CELLS) { partial[subgroup * CELLS + cell] = mine[p]; }
    }
    workgroupBarrier();
    if (part != 0u) { return; }
    for (var p = 0u; p < PASSES; p++) {
      let cell = min(p * SUBGROUP + lane, CELLS - 1u);
      for (var s = 1u; s < SPLIT_K; s++) { mine[p] += partial[(subgroup + s) * CELLS + cell]; }
    }
  }
  for (var p = 0u; p < PASSES; p++) {
    let cell = p * SUBGROUP + lane;
    let n = first + cell % OUTPUTS;
    if (cell >= CELLS || n >= N) { continue; }
    let to = m + cell / OUTPUTS;
    let statistics = statistics_of(mine[p].zw);
    let value = normalised(mine[p].x, n, statistics);
    if (GATED) { store_gated(to, n, value, normalised(mine[p].y, n, statistics)); } else { store(to, n, value, held(to, n)); }
  }
}
