// Weight format f32: eight weights are two vec4.
struct Weights8 { lo: vec4f, hi: vec4f }

@group(0) @binding(2) var<storage, read> weight: array<vec4f>;

// Weights 8·k8 … 8·k8+7 of row `row`; a row has K weights.
fn weight8(row: u32, k8: u32) -> Weights8 {
  let at = row * (K / 4u) + k8 * 2u;
  return Weights8(weight[at], weight[at + 1u]);
}
