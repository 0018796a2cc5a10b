// Activations of the feed-forward layer.

// Abramowitz and Stegun 7.1.26: |error| ≤ 1.5e-7, which is f32 rounding.
fn erf(x: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.3275911 * abs(x));
  let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return sign(x) * (1.0 - poly * exp(-x * x));
}

fn gelu(x: f32) -> f32 { return 0.5 * x * (1.0 + erf(x * 0.7071067811865476)); }

// tanh by exp saturates cleanly; WGSL's own tanh may overflow to NaN for large arguments on some drivers.
fn gelu_tanh(x: f32) -> f32 {
  let u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
  return x / (1.0 + exp(-2.0 * u));
}

fn silu(x: f32) -> f32 { return x / (1.0 + exp(-x)); }
