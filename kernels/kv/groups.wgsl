// Formats that go in groups of dimensions with a scale each, u32 words: int8.wgsl and int4.wgsl say what codes and scales are. Codes come
// first in an entry, then KV_SCALE_WORDS words of scales. Where scales are read again and again, reading them costs as much as reading
// codes: so keys, whose dimensions one lane reads in order, keep a group's scale, and those of a value are read once for all lanes.
alias kv_word = u32;
const KV_SCALE_WORDS = (HEAD_DIM / KV_GROUP + KV_GROUPS_OF_WORD - 1u) / KV_GROUPS_OF_WORD;
alias kv_scale_words = array<u32, KV_SCALE_WORDS>;

fn kv_scales_at(entry: u32) -> u32 { return entry * KV_WORDS + QUADS / KV_QUADS_OF_WORD; }
fn kv_scale_of_quad(quad: u32, word: u32) -> u32 { return word >> (quad / (KV_GROUP / 4u) % KV_GROUPS_OF_WORD * 16u); }
fn kv_scale(entry: u32, quad: u32) -> u32 {
  return kv_scale_of_quad(quad, kv_pool[kv_scales_at(entry) + quad / (KV_GROUP / 4u) / KV_GROUPS_OF_WORD]);
}

// Four dimensions, for who reads an entry from its first to its last: `scale` is kept from call to call.
fn kv_next4(entry: u32, quad: u32, scale: ptr<function, u32>) -> vec4f {
  if (quad % (KV_GROUP / 4u) == 0u) { *scale = kv_scale(entry, quad); }
  return kv_decode(kv_code(entry, quad), *scale);
}

// The scales of an entry, to be held by one lane for the others.
fn kv_scales(entry: u32) -> kv_scale_words {
  var scales = kv_scale_words();
  for (var i = 0u; i < KV_SCALE_WORDS; i++) { scales[i] = kv_pool[kv_scales_at(entry) + i]; }
  return scales;
}

// Four dimensions of the entry whose scales the lane `holder` has in `scales`.
fn kv_shared4(entry: u32, quad: u32, scales: kv_scale_words, holder: u32) -> vec4f {
  let wanted = quad / (KV_GROUP / 4u) / KV_GROUPS_OF_WORD;
  var word = subgroupShuffle(scales[0], holder);
  for (var i = 1u; i < KV_SCALE_WORDS; i++) { word = select(word, subgroupShuffle(scales[i], holder), i == wanted); }
  return kv_decode(kv_code(entry, quad), kv_scale_of_quad(quad, word));
}

// Eight dimensions. A group may end between them.
fn kv_read8(entry: u32, unit: u32) -> Dims8 {
  let codes = kv_codes8(entry, unit);
  let low = kv_scale(entry, unit * 2u);
  var high = low;
  if (KV_GROUP % 8u != 0u) { high = kv_scale(entry, unit * 2u + 1u); }
  return Dims8(kv_decode(codes.x, low), kv_decode(codes.y, high));
}
