// Weight format int4: (code − zero) · scale, both for GROUP weights of a row; 32 codes, which are in one group, are one 16-byte load.
@group(0) @binding(2) var<storage, read> weight: array<vec4u>;
@group(0) @binding(7) var<storage, read> scales: array<vec2f>; // [rows, ⌈K / GROUP⌉]: scale, zero

const UNIT8 = 4u;
const SCALED = true;
const ROW_SCALED = false;
struct RawWeights { codes: vec4u, zero: f32 }

fn group_of(row: u32, unit: u32) -> vec2f { return scales[row * ((K + GROUP - 1u) / GROUP) + unit * 32u / GROUP]; }
fn weights_begin(lane: u32) {}
fn raw_weights(row: u32, unit: u32) -> RawWeights { return RawWeights(weight[row * (K / 32u) + unit], group_of(row, unit).y); }
fn weights8(raw: RawWeights, i: u32) -> Weights8 {
  let even = vec4f((vec4u(raw.codes[i]) >> vec4u(4u, 12u, 20u, 28u)) & vec4u(15u)) - raw.zero;
  let odd = vec4f((vec4u(raw.codes[i]) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(15u)) - raw.zero;
  return Weights8(vec4f(even.x, odd.x, even.y, odd.y), vec4f(even.z, odd.z, even.w, odd.w));
}
fn unit_scale(row: u32, unit: u32) -> f32 { return group_of(row, unit).x; }
fn row_scale(row: u32) -> f32 { return 1.0; }
