// Quantize the block of keys that the entry `entry`, the `index`-th of its table, completes. The lanes of a subgroup take fours of channels,
// the same that they write of a key, so that a lane finds what it has just written of the newest one.
fn kv_line_of(low: i32, high: i32) -> u32 {
  if (!is_finite(low) || !is_finite(high)) { return 0x7e007e00u; } // NaN, so that a broken number cannot go unseen
  let lowest = disordered(low);
  let least = half_bits(abs(lowest), lowest < 0.0) | select(0u, 0x8000u, lowest < 0.0);
  return half_bits((disordered(high) - unpack2x16float(least).x) * (1.0 / 15.0), true) | (least << 16u);
}

fn kv_settle(entry: u32, index: u32, table: u32, head: u32, row: u32, lane: u32) {
  let first = index + 1u - BLOCK;
  for (var mine = lane; mine < (HEAD_DIM / 4u + SUBGROUP - 1u) / SUBGROUP * SUBGROUP; mine += SUBGROUP) {
    let quad = min(mine, HEAD_DIM / 4u - 1u);
    var low = vec4i(0x7fffffff);
    var high = vec4i(-0x7fffffff);
    for (var t = 0u; t < BLOCK; t++) {
      let key = kv_recent4(recent_place(first + t, index, table, head, row), quad);
      let order = vec4i(ordered(key.x), ordered(key.y), ordered(key.z), ordered(key.w));
      low = min(low, order);
      high = max(high, order);
    }
    var lines = vec4u();
    for (var c = 0u; c < 4u; c++) { lines[c] = kv_line_of(low[c], high[c]); }
    let at = kv_unit_at(entry, quad / 2u);
    for (var t = 0u; t < BLOCK; t += 4u) {
      var keys = array<vec4f, 4>();
      for (var i = 0u; i < 4u; i++) { keys[i] = kv_recent4(recent_place(first + t + i, index, table, head, row), quad); }
      var codes = vec4u();
      for (var c = 0u; c < 4u; c++) {
        let line = unpack2x16float(lines[c]);
        let steps = clamp(steps4(vec4f(keys[0][c], keys[1][c], keys[2][c], keys[3][c]) - line.y, line.x), vec4f(0.0), vec4f(15.0));
        if (lines[c] != 0x7e007e00u) { codes |= vec4u(steps) << vec4u(c * 4u); }
      }
      // A word is put together from two lanes, and the even one writes four of them.
      let words = codes | (subgroupShuffleXor(codes, 1u) << vec4u(16u));
      if (mine < HEAD_DIM / 4u && quad % 2u == 0u) { kv_pool[at + t / 4u] = words; }
    }
    if (mine < HEAD_DIM / 4u) { kv_pool[at + BLOCK / 4u + quad % 2u] = lines; }
  }
}
