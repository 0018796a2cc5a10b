// Weight format int8 where a row, or a matrix beside another, is no multiple of sixteen weights.
@group(0) @binding(2) var<storage, read> weight: array<vec2u>;

const UNIT8 = 1u;
alias RawWeights = vec2u;

fn raw_weights(row: u32, unit: u32) -> RawWeights { return weight[row * (K / 8u) + unit]; }

fn weights8(raw: RawWeights, i: u32) -> Weights8 { return Weights8(vec4f(unpack4xI8(raw.x)), vec4f(unpack4xI8(raw.y))); }
