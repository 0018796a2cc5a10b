// y = W x for one row of activations, for adapters on which a gather costs more than arithmetic. Each lane owns four rows of W, so
// nothing has to be summed across lanes; x is loaded once, one k per lane, and broadcast. W: [N, K], x: [K], y: [N]. With NORM the
// input is normalised on the way (kernels/input/norm.wgsl): the lanes of a subgroup together see all of x.
//
// GATED: W stacks `gate` over `up` (N rows each). A lane then owns two rows of each and makes two outputs.
@group(0) @binding(0) var<storage, read> x: array<f32>;

const UNITS = K / 8u / UNIT8;

// Output of the lane's i-th row of W.
fn output_of(first: u32, lane: u32, i: u32) -> u32 { return first + select(i, i % 2u, GATED) * SUBGROUP + lane; }

// The lane's i-th row of W. Rows past the end repeat the last one and are not stored.
fn row_of(first: u32, lane: u32, i: u32) -> u32 { return min(output_of(first, lane, i), N - 1u) + select(0u, N, GATED && i >= 2u); }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = local % SUBGROUP;
  let first = (group.x * (WORKGROUP / SUBGROUP) + local / SUBGROUP) * select(4u, 2u, GATED) * SUBGROUP;
  if (first >= N) { return; }
  let row0 = row_of(first, lane, 0u);
  let row1 = row_of(first, lane, 1u);
  let row2 = row_of(first, lane, 2u);
  let row3 = row_of(first, lane, 3u);
  let k_lane = lane % 8u;
  let gain_at = gain_start(first) * 4u + k_lane;
  var sum = vec4f();
  var moments = vec2f(); // Σ x, Σ x² of this lane's share
  weights_begin(lane);
  var scale = vec4f(1.0);
  var part = vec4f(); // of the sum, what is still without its scale
  // Of a short row the bound looks as if it depended on the workgroup: unrolled whole, the loop takes a software adapter seconds to compile.
  let units = select(UNITS, min(UNITS, group.x + UNITS), UNITS <= 32u);
  for (var unit = 0u; unit < units; unit++) {
    let raw0 = raw_weights(row0, unit);
    let raw1 = raw_weights(row1, unit);
    let raw2 = raw_weights(row2, unit);
    let raw3 = raw_weights(row3, unit);
    if (SCALED && unit % SCALE_UNITS == 0u) {
      sum = fma(part, scale, sum);
      part = vec4f();
      scale = vec4f(unit_scale(row0, unit), unit_scale(row1, unit), unit_scale(row2, unit), unit_scale(row3, unit));
    }
    for (var i = 0u; i < UNIT8; i++) {
      let k = unit * UNIT8 + i;
      var a = x[X_FIRST + k * 8u + k_lane];
      if (NORM != 0u) {
        moments += vec2f(a, a * a);
        a *= gain1(gain_at + k * 8u);
      }
      let w0 = weights8(raw0, i);
      let w1 = weights8(raw1, i);
      let w2 = weights8(raw2, i);
      let w3 = weights8(raw3, i);
      part = fma(vec4f(subgroupBroadcast(a, 0u)), vec4f(w0.lo.x, w1.lo.x, w2.lo.x, w3.lo.x), part);
      part = fma(vec4f(subgroupBroadcast(a, 1u)), vec4f(w0.lo.y, w1.lo.y, w2.lo.y, w3.lo.y), part);
      part = fma(vec4f(subgroupBroadcast(a, 2u)), vec4f(w0.lo.z, w1.lo.z, w2.lo.z, w3.lo.z), part);
      part = fma(vec4f(subgroupBroadcast(a, 3u)), vec4f(w0.lo.w, w1.lo.w, w2.lo.w, w3.lo.w), part);
      part = fma(vec4f(subgroupBroadcast(a, 4u)), vec4f(w0.hi.x, w1.hi.x, w2.hi.x, w3.hi.x), part);
      part = fma(vec4f(subgroupBroadcast(a, 5u)), vec4f(w0.hi.y, w1.hi.y, w2.hi.y, w3.hi.y), part);
      part = fma(vec4f(subgroupBroadcast(a, 6u)), vec4f(w0.hi.z, w1.hi.z, w2.hi.z, w3.hi.z), part);
      part = fma(vec4f(subgroupBroadcast(a, 7u)), vec4f(w0.hi.w, w1.hi.w, w2.hi.w, w3.hi.w), part);
    }
  }
  sum = select(part, fma(part, scale, sum), SCALED);
  if (ROW_SCALED) { sum *= vec4f(row_scale(row0), row_scale(row1), row_scale(row2), row_scale(row3)); }
  // Lanes beyond the eighth repeat the first eight.
  let statistics = statistics_of(select(vec2f(), subgroupAdd(moments) / f32(SUBGROUP / 8u), NORM != 0u));
  for (var i = 0u; i < select(4u, 2u, GATED); i++) {
    let n = output_of(first, lane, i);
    if (n >= N) { return; }
    let v = normalised(sum[i], n, statistics);
    if (GATED) { store_gated(0u, n, v, normalised(sum[i + 2u], n, statistics)); } else { store(0u, n, v, held(0u, n)); }
  }
}
