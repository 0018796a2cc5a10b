// Weight format f32: eight weights are two vec4.
@group(0) @binding(2) var<storage, read> weight: array<vec4f>;

const UNIT8 = 1u;
alias RawWeights = Weights8;

fn raw_weights(row: u32, unit: u32) -> RawWeights {
  let at = row * (K / 4u) + unit * 2u;
  return Weights8(weight[at], weight[at + 1u]);
}

fn weights8(raw: RawWeights, i: u32) -> Weights8 { return raw; }
