// One row per workgroup. RMS: y = x / sqrt(mean(x²) + eps) · weight (Zhang and Sennrich 2019).
// LayerNorm: y = (x − mean) / sqrt(var + eps) · weight + bias (Ba et al. 2016), the variance about the mean, in a second pass.
// x: [rows, C], y: [rows, C]. `source_row` (a slot) says which row of x row i of y comes from.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<storage, read> weight: array<vec4f>;

const SUBGROUPS = WORKGROUP / SUBGROUP;
var<workgroup> partial: array<f32, SUBGROUPS>;

// Sum over the workgroup. With one subgroup there is nothing to exchange and no barrier.
fn total(value: f32, local: u32) -> f32 {
  let own = subgroupAdd(value);
  if (SUBGROUPS == 1u) { return own; }
  workgroupBarrier(); // the last use of `partial` is over
  if (local % SUBGROUP == 0u) { partial[local / SUBGROUP] = own; }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < SUBGROUPS; i++) { sum += partial[i]; }
  return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let x_at = source_row(group.y) * (C / 4u);
  let y_at = group.y * (C / 4u);
  var mean = 0.0;
  if (LAYER_NORM) {
    var sum = 0.0;
    for (var c = local; c < C / 4u; c += WORKGROUP) { sum += dot(x[x_at + c], vec4f(1.0)); }
    mean = total(sum, local) / f32(C);
  }
  var squares = 0.0;
  for (var c = local; c < C / 4u; c += WORKGROUP) {
    let centred = x[x_at + c] - mean;
    squares += dot(centred, centred);
  }
  let scale = inverseSqrt(total(squares, local) / f32(C) + EPS);
  for (var c = local; c < C / 4u; c += WORKGROUP) {
    y[y_at + c] = (x[x_at + c] - mean) * scale * weight[c] + bias4(c);
  }
}
