// KV format int8: a group of KV_GROUP dimensions has one scale, the least f16 that is not below its greatest magnitude / 127, and a
// dimension is the whole number of scales nearest to it. An entry is HEAD_DIM bytes of codes and then an f16 for each group.
const KV_QUADS_OF_WORD = 1u;
const KV_GROUPS_OF_WORD = 2u;

// Exact in f32: 8 bits times 11.
fn kv_decode(code: u32, scale: u32) -> vec4f { return vec4f(unpack4xI8(code)) * unpack2x16float(scale).x; }
fn kv_code(entry: u32, quad: u32) -> u32 { return kv_pool[entry * KV_WORDS + quad]; }
fn kv_codes8(entry: u32, unit: u32) -> vec2u {
  let at = entry * KV_WORDS + unit * 2u;
  return vec2u(kv_pool[at], kv_pool[at + 1u]);
}
