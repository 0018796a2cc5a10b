// What becomes of a finished dot product: bias, activation, residual. ACTIVATION: 0 none, 1 GELU, 2 GELU (tanh); it acts on outputs
// from ACTIVATION_FROM on. `held` and `write` (slots) say what y holds there before and where a result goes; a kernel asks for all it
// needs of `held` before it writes, since a load may not overtake a store.
fn store(m: u32, n: u32, value: f32, before: f32) {
  var v = value + bias_of(n);
  if (ACTIVATION == 1u && n >= ACTIVATION_FROM) { v = gelu(v); }
  if (ACTIVATION == 2u && n >= ACTIVATION_FROM) { v = gelu_tanh(v); }
  write(m, n, v + before);
}

// Gated feed-forward: outputs n of `gate` and of `up` make one output.
fn store_gated(m: u32, n: u32, gate: f32, up: f32) { write(m, n, silu(gate) * up); }
