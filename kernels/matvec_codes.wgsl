// Y = X Wᵀ in whole numbers for 1 to 8 rows of activations, for GPUs (kernels/matvec.wgsl for floats): lanes of a subgroup run along K
// and share ROWS rows of W, and each lane issues ROWS·UNROLL loads of sixteen codes before it uses the first. BATCH rows of
// X: [M, VERSIONS, K], W: [N, K], Y: [M, N].
//
// GATED: W stacks `gate` over `up` (N rows each). Half of a subgroup's rows are of `gate`, the others the same of `up`.
@group(0) @binding(0) var<storage, read> x: array<vec2u>; // [M, VERSIONS, K / 8]

const OUTPUTS = select(ROWS, ROWS / 2u, GATED); // of a subgroup, for each row of X
const CELLS = OUTPUTS * BATCH;
const PASSES = (CELLS + SUBGROUP - 1u) / SUBGROUP; // in which the lanes store them, one each
const STRIDE = 2u * SUBGROUP; // in eights of columns

// The subgroup's i-th row of W. Rows past the end repeat the last one and are not stored.
fn row_of(first: u32, i: u32) -> u32 {
  if (GATED && i >= OUTPUTS) { return N + min(first + i - OUTPUTS, N - 1u); }
  return min(first + i, N - 1u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = local % SUBGROUP;
  let first = (group.x * (WORKGROUP / SUBGROUP) + local / SUBGROUP) * OUTPUTS;
  let m = group.y * BATCH;
  var row = array<u32, ROWS>();
  for (var r = 0u; r < ROWS; r++) { row[r] = row_of(first, r); }
  var mine = array<vec2f, PASSES>(); // of each cell that this lane stores: the product, and that of `up`
  let open = open_bound(source_of(m, first));
  for (var section = 0u; section < SECTIONS + open; section++) {
    let end = section_end(section, open);
    var sum = array<i32, BATCH * ROWS>();
    for (var step = section_begin(section); step < end; step += STRIDE * UNROLL) {
      var codes = array<vec4u, UNROLL * ROWS>();
      for (var u = 0u; u < UNROLL; u++) {
        let eight = min(step + u * STRIDE + 2u * lane, end - 1u); // past the end, inputs are zeros
        for (var r = 0u; r < ROWS; r++) { codes[u * ROWS + r] = codes16(row[r], eight); }
      }
      for (var u = 0u; u < UNROLL; u++) {
        let eight = step + u * STRIDE + 2u * lane;
        for (var b = 0u; b < BATCH; b++) {
          let at = source_of(m + b, first) * (K / 8u) + eight;
          let lo = select(vec2u(), x[at], eight < end);
          let hi = select(vec2u(), x[at + 1u], eight + 1u < end);
          for (var r = 0u; r < ROWS; r++) {
            let w = codes[u * ROWS + r];
            sum[b * ROWS + r] += dot4I8Packed(w.x, lo.x) + dot4I8Packed(w.y, lo.y) + dot4I8Packed(w.z, hi.x) + dot4I8Packed(w.w, hi.y);
          }
        }
      }
    }
    var whole = array<vec2i, PASSES>();
    for (var b = 0u; b < BATCH; b++) {
      for (var o = 0u; o < OUTPUTS; o++) {
        let value = subgroupAdd(sum[b * ROWS + o]);
        var up = 0i;
        if (GATED) { up = subgroupAdd(sum[b * ROWS + (ROWS - OUTPUTS) + o]); }
        let cell = b * OUTPUTS + o;
        if (lane == cell % SUBGROUP) { whole[cell / SUBGROUP] = vec2i(value, up); }
      }
    }
    for (var p = 0u; p < PASSES; p++) {
      let cell = min(p * SUBGROUP + lane, CELLS - 1u);
      let source = source_of(m + cell / OUTPUTS, first);
      let o = cell % OUTPUTS;
      mine[p] += vec2f(
        scaled(whole[p].x, source, row_of(first, o), section), scaled(whole[p].y, source, row_of(first, ROWS - OUTPUTS + o), section),
      );
    }
  }
  for (var p = 0u; p < PASSES; p++) {
    let cell = p * SUBGROUP + lane;
    let n = first + cell % OUTPUTS;
    if (cell >= CELLS || n >= N) { continue; }
    let to = m + cell / OUTPUTS;
    let source = source_of(to, first);
    let value = mine[p].x + outside(source, n);
    if (GATED) { store_gated(to, n, value, mine[p].y + outside(source, N + n)); } else { store(to, n, value, held(to, n)); }
  }
}
