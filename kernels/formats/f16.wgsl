// Weight format f16, two to a u32 word: eight weights are one 16-byte load, and `shader-f16` is not needed.
@group(0) @binding(2) var<storage, read> weight: array<vec4u>;

const UNIT8 = 1u;
alias RawWeights = vec4u;

fn raw_weights(row: u32, unit: u32) -> RawWeights { return weight[row * (K / 8u) + unit]; }

fn weights8(raw: RawWeights, i: u32) -> Weights8 {
  return Weights8(
    vec4f(unpack2x16float(raw.x), unpack2x16float(raw.y)),
    vec4f(unpack2x16float(raw.z), unpack2x16float(raw.w)),
  );
}
