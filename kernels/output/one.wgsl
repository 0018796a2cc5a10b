// All outputs go to `y`, whose rows have Y_STRIDE values; this dispatch owns the columns from Y_FIRST.
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// What the product is added to.
fn held(m: u32, n: u32) -> f32 {
  if (RESIDUAL) { return y[m * Y_STRIDE + Y_FIRST + n]; }
  return 0.0;
}

fn write(m: u32, n: u32, v: f32) { y[m * Y_STRIDE + Y_FIRST + n] = v; }
