// What the outliers of an input add to a product: their codes are zero, and they are multiplied here as they are.
@group(0) @binding(5) var<storage, read> outliers: array<vec2u>; // [M, VERSIONS, K]: column, bits of the value

// How many a row has. Rows past a step hold what an earlier one left there.
fn outliers_of(source: u32) -> u32 { return min(magnitudes[source].z, K); }

fn code_of(row: u32, k: u32) -> f32 { return f32(extractBits(bitcast<i32>(word_of(row, k)), k % 4u * 8u, 8u)); }

// Of one row of W.
fn outside(source: u32, row: u32) -> f32 {
  let count = outliers_of(source);
  let step = vec2f(scales[row * SECTIONS], scales[row * SECTIONS + SECTIONS - 1u]) / 127.0;
  var sum = 0.0;
  for (var i = 0u; i < count; i++) {
    let outlier = outliers[source * K + i];
    sum = fma(bitcast<f32>(outlier.y), code_of(row, outlier.x) * select(step.x, step.y, outlier.x >= COLUMN1), sum);
  }
  return sum;
}

// Of four rows of W.
fn outside4(source: u32, rows: vec4u) -> vec4f {
  let count = outliers_of(source);
  let first = step4(rows, 0u);
  var step = first;
  var sum = vec4f();
  for (var i = 0u; i < count; i++) {
    let outlier = outliers[source * K + i];
    let codes = vec4f(code_of(rows.x, outlier.x), code_of(rows.y, outlier.x), code_of(rows.z, outlier.x), code_of(rows.w, outlier.x));
    if (SECTIONS > 1u) { step = select(first, step4(rows, 1u), outlier.x >= COLUMN1); }
    sum = fma(vec4f(bitcast<f32>(outlier.y)), codes * step, sum);
  }
  return sum * 127.0;
}
