// Weight format bf16, two to a u32 word: the upper half of an f32, so widening is a shift.
@group(0) @binding(2) var<storage, read> weight: array<vec4u>;

const UNIT8 = 1u;
alias RawWeights = vec4u;

fn raw_weights(row: u32, unit: u32) -> RawWeights { return weight[row * (K / 8u) + unit]; }

fn widen(w: u32) -> vec2f {
  return vec2f(bitcast<f32>(w << 16u), bitcast<f32>(w & 0xffff0000u));
}

fn weights8(raw: RawWeights, i: u32) -> Weights8 {
  return Weights8(vec4f(widen(raw.x), widen(raw.y)), vec4f(widen(raw.z), widen(raw.w)));
}
