// Y = X Wᵀ for several rows through workgroup memory: the product for GPUs. A workgroup of 16 × 16 invocations makes a tile of
// 64 × 64; each invocation holds 4 × 4 sums, and 16 steps of k at a time are staged for all. X: [M, K], W: [N, K], Y: [M, N].
// With NORM each row of X is normalised on the way (kernels/input/norm.wgsl): the four invocations that stage a row see all of it.
//
// GATED: W stacks `gate` over `up` (N rows each). Of an invocation's four columns two are outputs of `gate` and two the same of `up`.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;

const TILE = 64u;
const DEPTH = 16u; // k per stage
var<workgroup> x_tile: array<f32, 1024>; // [DEPTH][TILE] rows of X
var<workgroup> w_tile: array<f32, 1024>; // [DEPTH][TILE] rows of W, which are columns of Y
var<workgroup> moments: array<vec2f, 256>; // [TILE][4]: what each staging invocation has seen of its row

// Row of W behind column `c` of the tile. Columns past the end repeat the last one and are not stored.
fn weight_row(tile: u32, c: u32) -> u32 {
  if (GATED) { return min(tile * 32u + c / 4u * 2u + c % 2u, N - 1u) + select(0u, N, c % 4u >= 2u); }
  return min(tile * TILE + c, N - 1u);
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) index: u32) {
  var sum: array<vec4f, 4>; // [row] of four columns each
  let load_row = index / 4u; // 0..63: the row of X and the column of Y that this invocation stages
  let load_k = index % 4u * 4u; // which four of the sixteen k
  let m = group.y * TILE;
  let x_row = min(m + load_row, M - 1u);
  let w_row = weight_row(group.x, load_row);
  var seen = vec2f(); // Σ x, Σ x²
  let gain_at = gain_start(group.x * select(TILE, TILE / 2u, GATED));
  for (var k = 0u; k < K; k += DEPTH) {
    var a = vec4f();
    var b = vec4f();
    if (k + load_k < K) { // K is a multiple of 8, not always of 16
      a = x[(x_row * X_STRIDE + X_FIRST + k + load_k) / 4u];
      if (NORM != 0u) {
        seen += vec2f(dot(a, vec4f(1.0)), dot(a, a));
        a *= gain4(gain_at + (k + load_k) / 4u);
      }
      let w = weight8(w_row, (k + load_k) / 8u);
      b = select(w.lo, w.hi, load_k % 8u == 4u);
    }
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
      x_tile[(load_k + i) * TILE + load_row] = a[i];
      w_tile[(load_k + i) * TILE + load_row] = b[i];
    }
    workgroupBarrier();
    for (var i = 0u; i < DEPTH; i++) {
      let r = i * TILE + local.y * 4u;
      let c = i * TILE + local.x * 4u;
      let columns = vec4f(w_tile[c], w_tile[c + 1u], w_tile[c + 2u], w_tile[c + 3u]);
      sum[0] = fma(vec4f(x_tile[r]), columns, sum[0]);
      sum[1] = fma(vec4f(x_tile[r + 1u]), columns, sum[1]);
      sum[2] = fma(vec4f(x_tile[r + 2u]), columns, sum[2]);
      sum[3] = fma(vec4f(x_tile[r + 3u]), columns, sum[3]);
    }
  }
  if (NORM != 0u) {
    moments[index] = seen; // index = row of the tile · 4 + which quarter
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i++) {
    let row = m + local.y * 4u + i;
    if (row >= M) { return; }
    var statistics = vec2f(0.0, 1.0);
    if (NORM != 0u) {
      let at = (local.y * 4u + i) * 4u;
      statistics = statistics_of(moments[at] + moments[at + 1u] + moments[at + 2u] + moments[at + 3u]);
    }
    if (GATED) {
      let n = group.x * 32u + local.x * 2u;
      if (n < N) { store_gated(row, n, normalised(sum[i].x, n, statistics), normalised(sum[i].z, n, statistics)); }
      if (n + 1u < N) { store_gated(row, n + 1u, normalised(sum[i].y, n + 1u, statistics), normalised(sum[i].w, n + 1u, statistics)); }
    } else {
      for (var j = 0u; j < 4u; j++) {
        let n = group.x * TILE + local.x * 4u + j;
        if (n < N) { store(row, n, normalised(sum[i][j], n, statistics)); }
      }
    }
  }
}
