// The scale of a group between two numbers (in the order of half.wgsl). NaN where one is not finite, so that it cannot go unseen.
fn kv_scale_of(low: i32, high: i32) -> u32 {
  if (!is_finite(low) || !is_finite(high)) { return 0x7e00u; }
  return half_bits(max(abs(disordered(low)), abs(disordered(high))) * (1.0 / 127.0), true);
}

fn kv_encode(v: vec4f, scale: u32) -> u32 {
  if (scale == 0x7e00u) { return 0u; }
  return pack4xI8(vec4i(clamp(steps4(v, unpack2x16float(scale).x), vec4f(-127.0), vec4f(127.0))));
}
