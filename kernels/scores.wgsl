// Scores of entries, and their order as integers: where a score is greater, its integer is. 0 and -0 are equal, NaN is the lowest (0), and
// infinities need no care, because nothing here computes with floats. Four scores at a time, because columns come in multiples of 64.
@group(0) @binding(1) var<storage, read> lengths: array<u32>; // [HEADS]

const SIGN = 0x80000000u; // also what 0 becomes
const ONES = vec4u(1u);

fn ordered4(bits: vec4u) -> vec4u {
  let magnitude = bits & vec4u(~SIGN);
  let negative = bits > vec4u(SIGN);
  let order = select(bits | vec4u(SIGN), ~bits, negative);
  return select(order, vec4u(), magnitude > vec4u(0x7f800000u));
}

// Which of the four scores from `first` on are those of entries.
fn inside4(first: u32, length: u32) -> vec4<bool> { return vec4u(first) + vec4u(0u, 1u, 2u, 3u) < vec4u(length); }
