// Normalising the input of a product without a pass of its own. With gain g and mean μ over K inputs:
//   RMS (NORM 1):    y = W (x·g) / sqrt(mean(x²) + eps)
//   Layer (NORM 2):  y = (W (x·g) − μ · W g) / sqrt(mean(x²) − μ² + eps) + W b + bias
// so the product runs over x·g and its result is put right afterwards. W g (`weight_gain`) and W b + bias (the bias of the product)
// are made once at load. NORM 0 leaves the input as it is.

// Where the gain of output n begins, in vec4: outputs from SPLIT on have a norm of their own. The outputs of a subgroup or tile are all
// on one side of it.
fn gain_start(n: u32) -> u32 { return select(0u, K / 4u, n >= SPLIT); }

// (mean, 1 / deviation) from (Σ x, Σ x²).
fn statistics_of(moments: vec2f) -> vec2f {
  if (NORM == 0u) { return vec2f(0.0, 1.0); }
  let mean = select(0.0, moments.x / f32(K), NORM == 2u);
  return vec2f(mean, inverseSqrt(max(moments.y / f32(K) - mean * mean, 0.0) + EPS));
}

fn normalised(sum: f32, n: u32, statistics: vec2f) -> f32 {
  if (NORM == 0u) { return sum; }
  if (NORM == 1u) { return sum * statistics.y; }
  return (sum - statistics.x * weight_gain_of(n)) * statistics.y;
}
