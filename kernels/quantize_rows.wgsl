// Rows of activations in int8, as LLM.int8() has them (Dettmers et al. 2022): code = round(x · (127 / m)), ties to even, where m is the
// row's largest magnitude among elements that are no outliers, one m for each of SECTIONS of columns. Outliers, of magnitude OUTLIER and
// above, get code 0 and are kept as they are. With NORM the row is first normalised: x is then norm(x) with gain and bias, and VERSIONS
// of it, each with its own gain and bias, are made of the same x. A workgroup takes one version of one row.
//
// Two departures from bitsandbytes. There an element that is an outlier in one row of a batch makes its column one for all rows, so that
// a text depends on what else is in the batch; here every row stands for itself, which is the same for one row. And there activations
// are f16 when they get here; here they are f32 and are not rounded, which gives the same codes for values that f16 can hold.
//
// Magnitudes are compared as the bits of non-negative floats, whose order is that of the numbers with NaN above all: a NaN becomes an
// outlier or the magnitude of its row, and cannot get lost in a code.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [M, VERSIONS, K / 4]
@group(0) @binding(2) var<storage, read_write> magnitudes: array<vec4u>; // [M, VERSIONS]: bits of each section's m; how many outliers; 0

const NEVER = 0xffffffffu; // OUTLIER where nothing is one
const LEAST = 0x0d800000u; // 2⁻¹⁰⁰, so that 127 / m is finite: rows of zeros get codes of zero

var<private> x_at: u32;
var<private> gain_at: u32;
var<private> mean: f32;
var<private> scale: f32;

// Columns 4·c … 4·c + 3. There is only one way to round this, whatever a compiler makes of it in different places: an element must not
// be an outlier here and none there.
fn normed(c: u32) -> vec4f {
  let v = x[x_at + c];
  if (NORM == 0u) { return v; }
  return fma((v - mean) * scale, gain4(gain_at + c), bias4(gain_at + c));
}

fn magnitude_bits(c: u32) -> vec4u { return bitcast<vec4u>(normed(c)) & vec4u(0x7fffffffu); }

// Greatest of the workgroup.
fn greatest(own: u32, local: u32) -> u32 {
  var most = subgroupMax(own);
  if (SUBGROUPS == 1u) { return most; }
  workgroupBarrier(); // the last use of `shared_index` is over
  if (local % SUBGROUP == 0u) { shared_index[local / SUBGROUP] = most; }
  workgroupBarrier();
  for (var i = 0u; i < SUBGROUPS; i++) { most = max(most, shared_index[i]); }
  return most;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = group.y * VERSIONS + group.x;
  x_at = (group.y * X_STRIDE + X_FIRST) / 4u;
  gain_at = group.x * (K / 4u);
  mean = 0.0;
  if (NORM == 2u) {
    var sum = 0.0;
    for (var c = local; c < K / 4u; c += WORKGROUP) { sum += dot(x[x_at + c], vec4f(1.0)); }
    mean = total(sum, local) / f32(K);
  }
  if (NORM != 0u) {
    var squares = 0.0;
    for (var c = local; c < K / 4u; c += WORKGROUP) {
      let centred = x[x_at + c] - mean;
      squares += dot(centred, centred);
    }
    scale = inverseSqrt(total(squares, local) / f32(K) + EPS);
  }
  var inside = vec2u(); // bits of the largest magnitude of each section without outliers
  var beyond = 0u; // and of all
  for (var c = local; c < K / 4u; c += WORKGROUP) {
    let bits = magnitude_bits(c);
    let kept = select(bits, vec4u(), bits >= vec4u(OUTLIER));
    let most = max(max(kept.x, kept.y), max(kept.z, kept.w));
    if (c * 4u < COLUMN1) { inside.x = max(inside.x, most); } else { inside.y = max(inside.y, most); }
    beyond = max(beyond, max(max(bits.x, bits.y), max(bits.z, bits.w)));
  }
  inside.x = max(greatest(inside.x, local), LEAST);
  inside.y = max(select(0u, greatest(inside.y, local), COLUMN1 < K), LEAST);
  beyond = select(0u, greatest(beyond, local), OUTLIER < NEVER);
  let steps = vec2f(127.0) / bitcast<vec2f>(inside);
  for (var c = local; c < K / 4u; c += WORKGROUP) {
    let v = normed(c);
    let rounded = vec4i(round(v * select(steps.y, steps.x, c * 4u < COLUMN1)));
    let bits = bitcast<vec4u>(v) & vec4u(0x7fffffffu);
    codes[row * (K / 4u) + c] = pack4xI8Clamp(select(rounded, vec4i(), bits >= vec4u(OUTLIER)));
  }
  var kept = 0u;
  if (local >= SUBGROUP) { return; }
  if (beyond >= OUTLIER) { kept = keep_outliers(row, beyond, local); }
  if (local == 0u) { magnitudes[row] = vec4u(inside, kept, 0u); } // for the 0 see codes/scaled.wgsl
}
