// Y = X Wᵀ for many rows on matrix units: 16 × 16 × 16 products in f16 with sums in f32, for GPUs that have them. A workgroup of four
// subgroups makes a tile of TILE_M × TILE_N, each subgroup every other 16 rows and every other 16 columns of it. DEPTH steps of k are
// staged for all as f16 while the next are on their way in registers. X: [M, K] f32, W: [N, K], Y: [M, N]. With NORM each row of X is
// normalised on the way (kernels/input/norm.wgsl). What a matrix unit does is a slot (kernels/matrix).
//
// X is scaled by 1/16 on its way into f16, since some feed-forward inputs exceed 65,504; a value beyond 1,048,064 becomes infinite, and
// so do the outputs it goes into, which the sampler reports.
//
// GATED: W stacks `gate` over `up` (N rows each). Half of a tile's columns are outputs of `gate`, the other half the same of `up`.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;

const X_SCALE = 0.0625;
const DEPTH = 32u;
const PIECES = DEPTH / 8u; // of eight k in a row of a stage
const LINE = DEPTH / 4u + 2u; // vec4 from one row to the next; two of padding against bank conflicts
const WORKGROUP = 4u * SUBGROUP;
const STEPS = (K + DEPTH - 1u) / DEPTH;
const X_EACH = TILE_M * PIECES / WORKGROUP;
const W_EACH = TILE_N * PIECES / WORKGROUP;
const DOWN = TILE_M / 32u; // matrices of a subgroup
const ACROSS = TILE_N / 32u;
var<workgroup> x_tile: array<vec4<f16>, TILE_M * LINE>;
var<workgroup> w_tile: array<vec4<f16>, TILE_N * LINE>;
var<workgroup> moments: array<vec2f, select(1u, TILE_M * PIECES, NORM != 0u)>; // Σ x, Σ x² of each row, in pieces
const OWN = select(256u, 512u, GATED); // results of a subgroup: one matrix, or one of `gate` and one of `up`
var<workgroup> results: array<f32, 4u * OWN>;

var<private> x_next: array<Weights8, X_EACH>;
var<private> w_next: array<Weights8, W_EACH>;
var<private> seen: array<vec2f, X_EACH>;

// Row of W behind column `c` of the tile. Columns past the end repeat the last one and are not stored.
fn weight_row(tile: u32, c: u32) -> u32 {
  if (GATED) { return min(tile * (TILE_N / 2u) + c % (TILE_N / 2u), N - 1u) + select(0u, N, c >= TILE_N / 2u); }
  return min(tile * TILE_N + c, N - 1u);
}

fn load(group: vec2u, index: u32, gain_at: u32, k: u32) {
  for (var e = 0u; e < X_EACH; e++) {
    let piece = index + e * WORKGROUP;
    let at = k + piece % PIECES * 8u;
    var a = Weights8();
    if (at < K) { // K is a multiple of 8, not always of DEPTH
      let source = (min(group.y * TILE_M + piece / PIECES, M - 1u) * X_STRIDE + X_FIRST + at) / 4u;
      a = Weights8(x[source], x[source + 1u]);
      if (NORM != 0u) {
        seen[e] += vec2f(dot(a.lo + a.hi, vec4f(1.0)), dot(a.lo, a.lo) + dot(a.hi, a.hi));
        a = Weights8(a.lo * gain4(gain_at + at / 4u), a.hi * gain4(gain_at + at / 4u + 1u));
      }
    }
    x_next[e] = a;
  }
  for (var e = 0u; e < W_EACH; e++) {
    let piece = index + e * WORKGROUP;
    let at = k + piece % PIECES * 8u;
    // All lanes read, because formats may exchange values between them.
    let w = weight8(weight_row(group.x, piece / PIECES), min(at, K - 8u) / 8u);
    if (at < K) { w_next[e] = w; } else { w_next[e] = Weights8(); }
  }
}

fn stage(index: u32) {
  for (var e = 0u; e < X_EACH; e++) {
    let piece = index + e * WORKGROUP;
    let at = piece / PIECES * LINE + piece % PIECES * 2u;
    x_tile[at] = vec4<f16>(x_next[e].lo * X_SCALE);
    x_tile[at + 1u] = vec4<f16>(x_next[e].hi * X_SCALE);
  }
  for (var e = 0u; e < W_EACH; e++) {
    let piece = index + e * WORKGROUP;
    let at = piece / PIECES * LINE + piece % PIECES * 2u;
    w_tile[at] = vec4<f16>(w_next[e].lo);
    w_tile[at + 1u] = vec4<f16>(w_next[e].hi);
  }
}

// One output of each of the 256 places of a matrix, or of a pair of them, whose upper left corner is output n of row m.
fn store_matrix(corner_m: u32, corner_n: u32, row_in_tile: u32, first: u32, lane: u32) {
  for (var at = lane; at < 256u; at += SUBGROUP) {
    let m = corner_m + at / 16u;
    let n = corner_n + at % 16u;
    if (m >= M || n >= N) { continue; }
    var statistics = vec2f(0.0, 1.0);
    if (NORM != 0u) {
      var total = vec2f();
      for (var piece = 0u; piece < PIECES; piece++) { total += moments[(row_in_tile + at / 16u) * PIECES + piece]; }
      statistics = statistics_of(total);
    }
    let value = normalised(results[first + at] / X_SCALE, n, statistics);
    if (GATED) {
      store_gated(m, n, value, normalised(results[first + OWN - 256u + at] / X_SCALE, n, statistics));
    } else {
      store(m, n, value, held(m, n));
    }
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let subgroup = index / SUBGROUP;
  let lane = index % SUBGROUP;
  let down = subgroup / 2u;
  let across = subgroup % 2u;
  var sum: array<Result, DOWN * ACROSS>;
  let gain_at = gain_start(group.x * select(TILE_N, TILE_N / 2u, GATED));
  weights_begin(lane);
  for (var step = 0u; step <= STEPS; step++) { // loads the step's stage, and uses the one before
    if (step < STEPS) { load(group.xy, index, gain_at, step * DEPTH); }
    if (step > 0u) {
      let end = min(DEPTH, K - (step - 1u) * DEPTH);
      for (var k = 0u; k < end; k += 16u) {
        var columns: array<Right, ACROSS>;
        for (var j = 0u; j < ACROSS; j++) { columns[j] = load_right(((j * 2u + across) * 16u) * (LINE * 4u) + k); }
        for (var i = 0u; i < DOWN; i++) {
          let rows = load_left(((i * 2u + down) * 16u) * (LINE * 4u) + k);
          for (var j = 0u; j < ACROSS; j++) { sum[i * ACROSS + j] = multiply_add(rows, columns[j], sum[i * ACROSS + j], lane); }
        }
      }
    }
    workgroupBarrier();
    if (step < STEPS) { stage(index); }
    workgroupBarrier();
  }
  if (NORM != 0u) {
    for (var e = 0u; e < X_EACH; e++) { moments[index + e * WORKGROUP] = seen[e]; }
  }
  let first = subgroup * OWN;
  for (var i = 0u; i < DOWN; i++) {
    for (var j = 0u; j < select(ACROSS, ACROSS / 2u, GATED); j++) {
      store_result(first, sum[i * ACROSS + j], lane);
      if (GATED) { store_result(first + OWN - 256u, sum[i * ACROSS + select(0u, j + ACROSS / 2u, GATED)], lane); }
      workgroupBarrier();
      let row = (i * 2u + down) * 16u;
      let column = (j * 2u + across) * 16u;
      store_matrix(group.y * TILE_M + row, group.x * select(TILE_N, TILE_N / 2u, GATED) + column, row, first, lane);
      workgroupBarrier();
    }
  }
}
