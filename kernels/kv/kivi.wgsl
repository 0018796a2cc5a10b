// KV format kivi4, for keys (after KIVI, Liu et al. 2024): a block of BLOCK tokens has for each channel a least number and a scale, as a
// group of int4.wgsl has them, because a key's channels differ by far more than its tokens do. That takes all tokens of a block, so keys
// are first stored as f16, in front of the blocks; what is told apart by KV_RECENT is a place there and an entry of a block. The pool, in
// elements of 16 bytes: RECENT keys of eight dimensions an element, then the blocks. A block is HEAD_DIM / 8 units of eight channels,
// and a unit is a word of nibbles for each token, side by side, as the lanes that score them read them, and a word of line for each channel.
alias kv_word = vec4u;
const KV_RECENT = 0x80000000u;
const KV_UNITS = HEAD_DIM / 8u;
const KV_UNIT_WIDTH = BLOCK / 4u + 2u; // elements of a unit

fn kv_unit_at(entry: u32, unit: u32) -> u32 { return RECENT * KV_UNITS + (entry / BLOCK * KV_UNITS + unit) * KV_UNIT_WIDTH; }

// The product is exact in f32, 4 bits times 11, so that every driver rounds once.
fn kv_decode(code: u32, lines: vec4u) -> vec4f {
  let a = unpack2x16float(lines.x);
  let b = unpack2x16float(lines.y);
  let c = unpack2x16float(lines.z);
  let d = unpack2x16float(lines.w);
  return fma(vec4f((vec4u(code) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u)), vec4f(a.x, b.x, c.x, d.x), vec4f(a.y, b.y, c.y, d.y));
}

fn kv_code8(entry: u32, unit: u32) -> u32 { return kv_pool[kv_unit_at(entry, unit) + entry % BLOCK / 4u][entry % 4u]; }

// Four dimensions of a recent key.
fn kv_recent4(place: u32, quad: u32) -> vec4f {
  let packed = kv_pool[(place & ~KV_RECENT) * KV_UNITS + quad / 2u];
  return kv_unpack(select(packed.xy, packed.zw, quad % 2u == 1u));
}

// The lanes begin at a multiple of SUBGROUP: where that divides BLOCK all are in one block, and its lines are read once for all.
fn kv_next4(entry: u32, quad: u32, scale: ptr<function, u32>) -> vec4f {
  let same = select(entry, subgroupBroadcastFirst(entry), BLOCK % SUBGROUP == 0u);
  if (same >= KV_RECENT) { return kv_recent4(entry, quad); }
  let at = kv_unit_at(same, quad / 2u);
  return kv_decode(kv_pool[at + entry % BLOCK / 4u][entry % 4u] >> (quad % 2u * 16u), kv_pool[at + BLOCK / 4u + quad % 2u]);
}

fn kv_read8(entry: u32, unit: u32) -> Dims8 {
  if (entry >= KV_RECENT) {
    let packed = kv_pool[(entry & ~KV_RECENT) * KV_UNITS + unit];
    return Dims8(kv_unpack(packed.xy), kv_unpack(packed.zw));
  }
  let codes = kv_code8(entry, unit);
  let lines = kv_unit_at(entry, unit) + BLOCK / 4u;
  return Dims8(kv_decode(codes, kv_pool[lines]), kv_decode(codes >> 16u, kv_pool[lines + 1u]));
}
