// Weight formats nf4 and fp4: 32 codes, which are in one block, are one 16-byte load.
@group(0) @binding(2) var<storage, read> weight: array<vec4u>;

const UNIT8 = 4u;
const SCALED = true;
const ROW_SCALED = false;
alias RawWeights = vec4u;

fn weights_begin(lane: u32) { codes_begin(lane); }
fn raw_weights(row: u32, unit: u32) -> RawWeights { return weight[row * (K / 32u) + unit]; }
fn weights8(raw: RawWeights, i: u32) -> Weights8 { return values8(raw[i]); }
fn unit_scale(row: u32, unit: u32) -> f32 { return absmax(row, unit * 32u); }
fn row_scale(row: u32) -> f32 { return 1.0; }
