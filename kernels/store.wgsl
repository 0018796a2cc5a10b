// What becomes of a finished dot product: bias, activation, residual. ACTIVATION: 0 none, 1 GELU, 2 GELU (tanh), 3 SiLU(gate) · up.
// The activation acts on outputs from ACTIVATION_FROM on. `y` has Y_STRIDE values per row; this dispatch owns the columns from Y_FIRST.
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

fn store(m: u32, n: u32, value: f32) {
  var v = value + bias_of(n);
  if (ACTIVATION == 1u && n >= ACTIVATION_FROM) { v = gelu(v); }
  if (ACTIVATION == 2u && n >= ACTIVATION_FROM) { v = gelu_tanh(v); }
  let at = m * Y_STRIDE + Y_FIRST + n;
  if (RESIDUAL) { v += y[at]; }
  y[at] = v;
}

// Gated feed-forward: outputs n of `gate` and of `up` make one output.
fn store_gated(m: u32, n: u32, gate: f32, up: f32) {
  y[m * Y_STRIDE + Y_FIRST + n] = silu(gate) * up;
}
