// All outputs go to `y`, whose rows have Y_STRIDE values; this dispatch owns the columns from Y_FIRST.
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

fn write(m: u32, n: u32, v: f32) {
  let at = m * Y_STRIDE + Y_FIRST + n;
  if (RESIDUAL) { y[at] += v; } else { y[at] = v; }
}
