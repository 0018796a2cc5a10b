// Two products of the same input in one dispatch: outputs before SPLIT go to `y`, the others to `y2`. Neither is added to what is there.
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> y2: array<f32>;

fn held(m: u32, n: u32) -> f32 { return 0.0; }

fn write(m: u32, n: u32, v: f32) {
  if (n < SPLIT) { y[m * Y_STRIDE + Y_FIRST + n] = v; } else { y2[m * Y2_STRIDE + Y2_FIRST + n - SPLIT] = v; }
}
