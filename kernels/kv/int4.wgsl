// KV format int4: a group of KV_GROUP dimensions has a least number, the greatest f16 that is not above it, and a scale, the least f16 that
// reaches from there to its greatest in 15 steps; a dimension is the least number and the whole number of scales nearest to it. An entry is
// a nibble for each dimension, lowest first, and then for each group a word of its scale and its least number.
const KV_QUADS_OF_WORD = 2u;
const KV_GROUPS_OF_WORD = 1u;

// The product is exact in f32, 4 bits times 11, so that every driver rounds once.
fn kv_decode(code: u32, scale: u32) -> vec4f {
  let line = unpack2x16float(scale);
  return fma(vec4f((vec4u(code) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u)), vec4f(line.x), vec4f(line.y));
}
fn kv_code(entry: u32, quad: u32) -> u32 { return kv_pool[entry * KV_WORDS + quad / 2u] >> (quad % 2u * 16u); }
fn kv_codes8(entry: u32, unit: u32) -> vec2u {
  let codes = kv_pool[entry * KV_WORDS + unit];
  return vec2u(codes, codes >> 16u);
}
