// Weight format int8: sixteen codes are one 16-byte load.
@group(0) @binding(2) var<storage, read> weight: array<vec4u>;

const UNIT8 = 2u;
alias RawWeights = vec4u;

fn raw_weights(row: u32, unit: u32) -> RawWeights { return weight[row * (K / 16u) + unit]; }

fn weights8(raw: RawWeights, i: u32) -> Weights8 {
  let w = select(raw.xy, raw.zw, i == 1u);
  return Weights8(vec4f(unpack4xI8(w.x)), vec4f(unpack4xI8(w.y)));
}
