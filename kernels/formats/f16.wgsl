// Weight format f16, two to a u32 word: eight weights are one 16-byte load, and `shader-f16` is not needed.
struct Weights8 { lo: vec4f, hi: vec4f }

@group(0) @binding(2) var<storage, read> weight: array<vec4u>;

// Weights 8·k8 … 8·k8+7 of row `row`; a row has K weights.
fn weight8(row: u32, k8: u32) -> Weights8 {
  let w = weight[row * (K / 8u) + k8];
  return Weights8(
    vec4f(unpack2x16float(w.x), unpack2x16float(w.y)),
    vec4f(unpack2x16float(w.z), unpack2x16float(w.w)),
  );
}
