// Write an entry as quads_put.wgsl does, into elements of eight dimensions.
fn kv_put(entry: u32, lane: u32, dims: ptr<function, array<vec4f, LANE_QUADS>>) {
  for (var j = 0u; j < LANE_QUADS; j++) {
    let quad = lane + j * SUBGROUP;
    let packed = kv_pack((*dims)[j]);
    if (quad < QUADS) {
      let at = entry * (QUADS / 2u) + quad / 2u;
      kv_pool[at][quad % 2u * 2u] = packed.x;
      kv_pool[at][quad % 2u * 2u + 1u] = packed.y;
    }
    (*dims)[j] = kv_unpack(subgroupShuffle(packed, lane));
  }
}
