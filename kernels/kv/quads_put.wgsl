// Write an entry: the lanes of a subgroup hold its fours of dimensions, lane, lane + SUBGROUP, …, and are left with what a read will give.
fn kv_put(entry: u32, lane: u32, dims: ptr<function, array<vec4f, LANE_QUADS>>) {
  for (var j = 0u; j < LANE_QUADS; j++) {
    let quad = lane + j * SUBGROUP;
    let packed = kv_pack((*dims)[j]);
    if (quad < QUADS) { kv_pool[entry * QUADS + quad] = packed; }
    // The exchange is there because compilers take unpacking what was packed for nothing, though it rounds.
    (*dims)[j] = kv_unpack(subgroupShuffle(packed, lane));
  }
}
