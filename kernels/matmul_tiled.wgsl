// Y = X Wᵀ for many rows through workgroup memory: the product for GPUs without matrix units, or before those were checked. A workgroup
// makes a tile of TILE_M × TILE_N, each invocation THREAD_M (4 or 8) × 8 of it. DEPTH steps of k at a time are staged for all, k by k,
// as vec4 of four rows; the next stage is loaded into registers while this one is used, and goes into the other of two buffers where
// there is room for them (BUFFERS). X: [M, K], W: [N, K], Y: [M, N]. With NORM each row of X is normalised on the way
// (kernels/input/norm.wgsl): the invocations that stage a row see all of it.
//
// GATED: W stacks `gate` over `up` (N rows each). Half of a tile's columns are outputs of `gate`, the other half the same of `up`, and
// so are an invocation's.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;

const ACROSS = TILE_N / 8u; // invocations along a row of the tile
const WORKGROUP = ACROSS * (TILE_M / THREAD_M);
const STEPS = (K + DEPTH - 1u) / DEPTH;
// What an invocation stages: blocks of four rows of X by four k, and of four rows of W by eight k.
const X_BLOCKS = TILE_M / 4u * (DEPTH / 4u);
const W_BLOCKS = TILE_N / 4u * (DEPTH / 8u);
const X_EACH = (X_BLOCKS + WORKGROUP - 1u) / WORKGROUP;
const W_EACH = (W_BLOCKS + WORKGROUP - 1u) / WORKGROUP;
// vec4 from one k to the next; one of padding, or all of a block's stores would fall into one bank.
const X_LINE = TILE_M / 4u + 1u;
const W_LINE = TILE_N / 4u + 1u;
var<workgroup> x_tile: array<vec4f, BUFFERS * DEPTH * X_LINE>;
var<workgroup> w_tile: array<vec4f, BUFFERS * DEPTH * W_LINE>;

// The next stage on its way, and Σ x and Σ x² of the four rows of each block.
var<private> x_next: array<vec4f, X_EACH * 4u>;
var<private> w_next: array<Weights8, W_EACH * 4u>;
var<private> total: array<vec4f, X_EACH>;
var<private> squares: array<vec4f, X_EACH>;

// Row of W behind column `c` of the tile. Columns past the end repeat the last one and are not stored.
fn weight_row(tile: u32, c: u32) -> u32 {
  if (GATED) { return min(tile * (TILE_N / 2u) + c % (TILE_N / 2u), N - 1u) + select(0u, N, c >= TILE_N / 2u); }
  return min(tile * TILE_N + c, N - 1u);
}

fn load(group: vec2u, index: u32, gain_at: u32, k: u32) {
  for (var e = 0u; e < X_EACH; e++) {
    let block = index + e * WORKGROUP;
    let at = k + block % (DEPTH / 4u) * 4u;
    let inside = block < X_BLOCKS && at < K; // K is a multiple of 8, not always of DEPTH
    var gain = vec4f(1.0);
    if (NORM != 0u && inside) { gain = gain4(gain_at + at / 4u); }
    for (var i = 0u; i < 4u; i++) {
      var a = vec4f();
      if (inside) { a = x[(min(group.y * TILE_M + block / (DEPTH / 4u) * 4u + i, M - 1u) * X_STRIDE + X_FIRST + at) / 4u]; }
      if (NORM != 0u) {
        total[e][i] += dot(a, vec4f(1.0));
        squares[e][i] += dot(a, a);
      }
      x_next[e * 4u + i] = a * gain;
    }
  }
  for (var e = 0u; e < W_EACH; e++) {
    let block = index + e * WORKGROUP;
    let at = k + block % (DEPTH / 8u) * 8u;
    for (var i = 0u; i < 4u; i++) {
      // All lanes read, because formats may exchange values between them; what lies outside is not used.
      let w = weight8(weight_row(group.x, min(block, W_BLOCKS - 1u) / (DEPTH / 8u) * 4u + i), min(at, K - 8u) / 8u);
      w_next[e * 4u + i] = w;
    }
  }
}

fn stage(index: u32, buffer: u32) {
  for (var e = 0u; e < X_EACH; e++) {
    let block = index + e * WORKGROUP;
    if (block < X_BLOCKS) {
      let at = (buffer * DEPTH + block % (DEPTH / 4u) * 4u) * X_LINE + block / (DEPTH / 4u);
      let rows = transpose(mat4x4f(x_next[e * 4u], x_next[e * 4u + 1u], x_next[e * 4u + 2u], x_next[e * 4u + 3u]));
      for (var i = 0u; i < 4u; i++) { x_tile[at + i * X_LINE] = rows[i]; }
    }
  }
  for (var e = 0u; e < W_EACH; e++) {
    let block = index + e * WORKGROUP;
    if (block < W_BLOCKS) {
      let at = (buffer * DEPTH + block % (DEPTH / 8u) * 8u) * W_LINE + block / (DEPTH / 8u);
      let lo = transpose(mat4x4f(w_next[e * 4u].lo, w_next[e * 4u + 1u].lo, w_next[e * 4u + 2u].lo, w_next[e * 4u + 3u].lo));
      let hi = transpose(mat4x4f(w_next[e * 4u].hi, w_next[e * 4u + 1u].hi, w_next[e * 4u + 2u].hi, w_next[e * 4u + 3u].hi));
      for (var i = 0u; i < 4u; i++) {
        w_tile[at + i * W_LINE] = lo[i];
        w_tile[at + (4u + i) * W_LINE] = hi[i];
      }
    }
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let tx = index % ACROSS;
  let ty = index / ACROSS;
  var sum = array<vec4f, 2u * THREAD_M>(); // of each row, two times four columns, half a tile apart
  let gain_at = gain_start(group.x * select(TILE_N, TILE_N / 2u, GATED));
  weights_begin(index % SUBGROUP);
  for (var step = 0u; step <= STEPS; step++) { // loads the step's stage, and uses the one before
    if (step < STEPS) { load(group.xy, index, gain_at, step * DEPTH); }
    if (step > 0u) {
      let staged = (step - 1u) % BUFFERS * DEPTH;
      // Pairs of k: unrolled whole, this loop takes software adapters seconds to compile.
      let end = min(DEPTH, K - (step - 1u) * DEPTH);
      for (var k = 0u; k < end; k += 2u) {
        for (var j = 0u; j < 2u; j++) {
          let w = (staged + k + j) * W_LINE + tx;
          let columns = w_tile[w];
          let others = w_tile[w + ACROSS];
          for (var quad = 0u; quad < THREAD_M / 4u; quad++) {
            let rows = x_tile[(staged + k + j) * X_LINE + quad * (TILE_M / 8u) + ty];
            for (var i = 0u; i < 4u; i++) {
              sum[quad * 8u + i * 2u] = fma(vec4f(rows[i]), columns, sum[quad * 8u + i * 2u]);
              sum[quad * 8u + i * 2u + 1u] = fma(vec4f(rows[i]), others, sum[quad * 8u + i * 2u + 1u]);
            }
          }
        }
      }
    }
    if (BUFFERS == 1u) { workgroupBarrier(); }
    if (step < STEPS) { stage(index, step % BUFFERS); }
    workgroupBarrier();
  }
  if (NORM != 0u) { // what each block has seen of its four rows; the tile is not needed any more
    for (var e = 0u; e < X_EACH; e++) {
      let block = index + e * WORKGROUP;
      if (block < X_BLOCKS) {
        x_tile[block * 2u] = total[e];
        x_tile[block * 2u + 1u] = squares[e];
      }
    }
    workgroupBarrier();
  }
  for (var quad = 0u; quad < THREAD_M / 4u; quad++) {
    var rows_total = vec4f();
    var rows_squares = vec4f();
    if (NORM != 0u) {
      for (var i = 0u; i < DEPTH / 4u; i++) {
        let block = (quad * (TILE_M / 8u) + ty) * (DEPTH / 4u) + i;
        rows_total += x_tile[block * 2u];
        rows_squares += x_tile[block * 2u + 1u];
      }
    }
    for (var i = 0u; i < 4u; i++) {
      let row = group.y * TILE_M + quad * (TILE_M / 2u) + ty * 4u + i;
      if (row >= M) { return; }
      let statistics = statistics_of(vec2f(rows_total[i], rows_squares[i]));
      store_row(row, group.x, tx, sum[quad * 8u + i * 2u], sum[quad * 8u + i * 2u + 1u], statistics);
    }
  }
}

// Two times four columns of a row. How many there are is left open to the compiler: unrolled for every row, the stores are most of the
// kernel's text.
fn store_row(row: u32, tile: u32, tx: u32, columns: vec4f, others: vec4f, statistics: vec2f) {
  let n = tile * select(TILE_N, TILE_N / 2u, GATED) + tx * 4u;
  let count = min(4u, N - min(n, N));
  if (GATED) {
    for (var j = 0u; j < count; j++) { store_gated(row, n + j, normalised(columns[j], n + j, statistics), normalised(others[j], n + j, statistics)); }
    return;
  }
  store_four(row, n, count, columns, statistics);
  let far = n + TILE_N / 2u;
  store_four(row, far, min(4u, N - min(far, N)), others, statistics);
}

fn store_four(row: u32, n: u32, count: u32, values: vec4f, statistics: vec2f) {
  var before = vec4f();
  if (RESIDUAL) { before = vec4f(held(row, min(n, N - 1u)), held(row, min(n + 1u, N - 1u)), held(row, min(n + 2u, N - 1u)), held(row, min(n + 3u, N - 1u))); }
  for (var j = 0u; j < count; j++) { store(row, n + j, normalised(values[j], n + j, statistics), before[j]); }
}
