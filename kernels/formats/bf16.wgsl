// Weight format bf16, two to a u32 word: the upper half of an f32, so widening is a shift.
struct Weights8 { lo: vec4f, hi: vec4f }

@group(0) @binding(2) var<storage, read> weight: array<vec4u>;

fn widen(w: u32) -> vec2f {
  return vec2f(bitcast<f32>(w << 16u), bitcast<f32>(w & 0xffff0000u));
}

// Weights 8·k8 … 8·k8+7 of row `row`; a row has K weights.
fn weight8(row: u32, k8: u32) -> Weights8 {
  let w = weight[row * (K / 8u) + k8];
  return Weights8(vec4f(widen(w.x), widen(w.y)), vec4f(widen(w.z), widen(w.w)));
}
