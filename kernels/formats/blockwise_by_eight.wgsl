// Weight formats nf4 and fp4 where a row, or a matrix beside another, is no multiple of 32 weights, or a block none.
@group(0) @binding(2) var<storage, read> weight: array<u32>;

const UNIT8 = 1u;
const SCALED = true;
const ROW_SCALED = false;
alias RawWeights = u32;

fn weights_begin(lane: u32) { codes_begin(lane); }
fn raw_weights(row: u32, unit: u32) -> RawWeights { return weight[row * (K / 8u) + unit]; }
fn weights8(raw: RawWeights, i: u32) -> Weights8 { return values8(raw); }
fn unit_scale(row: u32, unit: u32) -> f32 { return absmax(row, unit * 8u); }
fn row_scale(row: u32) -> f32 { return 1.0; }
