// f16 bits of a number from 0 up, rounded up or down as asked, at most the largest f16. By hand: which way a driver rounds to f16 is its own
// affair, and a scale must not be smaller than what it is to cover. Below 2^-60, where drivers differ in what they flush, all is zero.
fn half_bits(value: f32, up: bool) -> u32 {
  if (value < 0x1p-60f) { return 0u; }
  // Below 2^-14 an f16 counts steps of 2^-24.
  if (value < 0x1p-14f) { return u32(select(floor(value * 0x1p24f), ceil(value * 0x1p24f), up)); }
  return min((bitcast<u32>(value) - 0x38000000u + select(0u, 0x1fffu, up)) >> 13u, 0x7bffu);
}

// Integers in the order of the floats whose bits they are turned from, NaN at the ends.
fn ordered(value: f32) -> i32 {
  let bits = bitcast<i32>(value);
  return bits ^ ((bits >> 31u) & 0x7fffffff);
}
fn disordered(order: i32) -> f32 { return bitcast<f32>(order ^ ((order >> 31u) & 0x7fffffff)); }
fn is_finite(order: i32) -> bool { return (order ^ (order >> 31u)) < 0x7f800000; }

// Nearest whole number to value / step, ties to even, 0 without a step. The same on every driver: a quotient in f32 may be off by a few
// last bits, but what is left over of `value` is exact, and says whether it has gone too far.
fn steps4(value: vec4f, step: f32) -> vec4f {
  if (step == 0.0) { return vec4f(); }
  let n = round(value / step);
  let left = value - n * step;
  let odd = abs(n) % vec4f(2.0) == vec4f(1.0);
  let half = vec4f(step * 0.5);
  let more = (left > half) | ((left == half) & odd);
  let less = (left < -half) | ((left == -half) & odd);
  return n + select(vec4f(), vec4f(1.0), more) - select(vec4f(), vec4f(1.0), less);
}
