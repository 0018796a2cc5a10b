// Codes of four bits that stand for the numbers CODES, two to a byte, the earlier in the high half. The table lies across the lanes of a
// subgroup and is read by shuffles: a table in memory, or one that the compiler makes of a constant array, takes several times as long.
// Where a subgroup has eight lanes it takes two shuffles, and the highest bit of the code chooses: as a sign, which costs no comparison.
var<private> code_low: f32; // of codes 0 – 7, or of all where a subgroup has room for them
var<private> code_high: f32;

const WHOLE_TABLE = SUBGROUP >= 16u;

fn codes_begin(lane: u32) {
  code_low = CODES[lane % select(8u, 16u, WHOLE_TABLE)];
  code_high = CODES[8u + lane % 8u];
}

fn value_of(code: u32, sign: i32) -> f32 {
  if (WHOLE_TABLE) { return subgroupShuffle(code_low, code); }
  return select(subgroupShuffle(code_low, code), subgroupShuffle(code_high, code), sign < 0);
}

fn values8(codes: u32) -> Weights8 {
  let mask = select(vec4u(7u), vec4u(15u), WHOLE_TABLE);
  let even = (vec4u(codes) >> vec4u(4u, 12u, 20u, 28u)) & mask;
  let odd = (vec4u(codes) >> vec4u(0u, 8u, 16u, 24u)) & mask;
  let even_sign = vec4i(vec4u(codes) << vec4u(24u, 16u, 8u, 0u));
  let odd_sign = vec4i(vec4u(codes) << vec4u(28u, 20u, 12u, 4u));
  return Weights8(
    vec4f(value_of(even.x, even_sign.x), value_of(odd.x, odd_sign.x), value_of(even.y, even_sign.y), value_of(odd.y, odd_sign.y)),
    vec4f(value_of(even.z, even_sign.z), value_of(odd.z, odd_sign.z), value_of(even.w, even_sign.w), value_of(odd.w, odd_sign.w)),
  );
}
