// Scale and least number of a group between two numbers (in the order of half.wgsl). NaN where one is not finite, so that it cannot go unseen.
fn kv_scale_of(low: i32, high: i32) -> u32 {
  if (!is_finite(low) || !is_finite(high)) { return 0x7e007e00u; }
  let lowest = disordered(low);
  let least = half_bits(abs(lowest), lowest < 0.0) | select(0u, 0x8000u, lowest < 0.0);
  return half_bits((disordered(high) - unpack2x16float(least).x) * (1.0 / 15.0), true) | (least << 16u);
}

fn kv_encode(v: vec4f, scale: u32) -> u32 {
  if (scale == 0x7e007e00u) { return 0u; }
  let line = unpack2x16float(scale);
  let code = vec4u(clamp(steps4(v - line.y, line.x), vec4f(0.0), vec4f(15.0)));
  return code.x | (code.y << 4u) | (code.z << 8u) | (code.w << 12u);
}
