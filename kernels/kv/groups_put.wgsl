// Write an entry in groups, as quads_put.wgsl does: the lanes hold fours of dimensions, find the ends of every group together, and each
// encodes its own. What an entry is, int8.wgsl and int4.wgsl say.
fn kv_put(entry: u32, lane: u32, dims: ptr<function, array<vec4f, LANE_QUADS>>) {
  let at = entry * KV_WORDS;
  var scale = array<u32, LANE_QUADS>();
  var stored = 0u;
  for (var group = 0u; group < HEAD_DIM / KV_GROUP; group++) {
    var low = 0x7fffffff;
    var high = -0x7fffffff;
    for (var j = 0u; j < LANE_QUADS; j++) {
      if ((lane + j * SUBGROUP) / (KV_GROUP / 4u) == group) {
        for (var i = 0u; i < 4u; i++) {
          let order = ordered((*dims)[j][i]);
          low = min(low, order);
          high = max(high, order);
        }
      }
    }
    for (var d = 1u; d < SUBGROUP; d *= 2u) {
      low = min(low, subgroupShuffleXor(low, d));
      high = max(high, subgroupShuffleXor(high, d));
    }
    let found = kv_scale_of(low, high);
    for (var j = 0u; j < LANE_QUADS; j++) {
      if ((lane + j * SUBGROUP) / (KV_GROUP / 4u) == group) { scale[j] = found; }
    }
    let place = group % KV_GROUPS_OF_WORD;
    stored = select(stored | (found << (place * 16u)), found, place == 0u);
    if (lane == 0u) { kv_pool[at + QUADS / KV_QUADS_OF_WORD + group / KV_GROUPS_OF_WORD] = stored; }
  }
  for (var j = 0u; j < LANE_QUADS; j++) {
    let quad = lane + j * SUBGROUP;
    let code = kv_encode((*dims)[j], scale[j]);
    // A word of two fours is put together from two lanes, and the even one writes it.
    let word = select(code, code | (subgroupShuffleXor(code, 1u) << 16u), KV_QUADS_OF_WORD == 2u);
    if (quad < QUADS && quad % KV_QUADS_OF_WORD == 0u) { kv_pool[at + quad / KV_QUADS_OF_WORD] = word; }
    (*dims)[j] = kv_decode(code, scale[j]);
  }
}
