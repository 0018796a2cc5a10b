// y = W x for one row of activations. Lanes of a subgroup run along K and share four rows of W, so each activation is loaded once
// for four weights; no workgroup memory, no barrier. W: [N, K], x: [K], y: [N].
//
// GATED: W stacks `gate` over `up` (N rows each). A subgroup then takes two rows of each and stores two outputs.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = local % SUBGROUP;
  let first = (group.x * (WORKGROUP / SUBGROUP) + local / SUBGROUP) * select(4u, 2u, GATED);
  if (first >= N) { return; }
  // Rows past the end repeat the last one and are not stored.
  let row0 = first;
  let row1 = min(first + 1u, N - 1u);
  let row2 = select(min(first + 2u, N - 1u), N + row0, GATED);
  let row3 = select(min(first + 3u, N - 1u), N + row1, GATED);
  var sum = vec4f();
  for (var k = lane; k < K / 8u; k += SUBGROUP) {
    let lo = x[k * 2u];
    let hi = x[k * 2u + 1u];
    let w0 = weight8(row0, k);
    let w1 = weight8(row1, k);
    let w2 = weight8(row2, k);
    let w3 = weight8(row3, k);
    sum += vec4f(
      dot(w0.lo, lo) + dot(w0.hi, hi),
      dot(w1.lo, lo) + dot(w1.hi, hi),
      dot(w2.lo, lo) + dot(w2.hi, hi),
      dot(w3.lo, lo) + dot(w3.hi, hi),
    );
  }
  sum = subgroupAdd(sum);
  if (lane != 0u) { return; }
  if (GATED) {
    store_gated(0u, first, sum.x, sum.z);
    if (first + 1u < N) { store_gated(0u, first + 1u, sum.y, sum.w); }
    return;
  }
  store(0u, first, sum.x);
  if (first + 1u < N) { store(0u, first + 1u, sum.y); }
  if (first + 2u < N) { store(0u, first + 2u, sum.z); }
  if (first + 3u < N) { store(0u, first + 3u, sum.w); }
}
