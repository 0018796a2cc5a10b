// Arithmetic that must be right to the last bit on every device, since codes of weights hang on it: WGSL allows a division to be off by
// more than two units.

// n / a, rounded to nearest even, where both and the quotient are normal numbers; 0 where n is smaller. Long division of significands.
fn quotient(n: f32, a: f32) -> f32 {
  let n_bits = bitcast<u32>(n);
  let a_bits = bitcast<u32>(a);
  if ((n_bits & 0x7f800000u) == 0u) { return 0.0; }
  let divisor = (a_bits & 0x7fffffu) | 0x800000u;
  var rest = (n_bits & 0x7fffffu) | 0x800000u;
  var exponent = i32((n_bits >> 23u) & 255u) - i32((a_bits >> 23u) & 255u);
  var q = 0u;
  // Until q has 25 bits: those of a significand and one to round by.
  for (var step = 0u; step < 32u; step++) {
    q <<= 1u;
    if (rest >= divisor) {
      rest -= divisor;
      q |= 1u;
    }
    if (q >= 0x1000000u) { break; }
    rest <<= 1u;
    exponent -= 1;
  }
  let half = q & 1u;
  q = (q >> 1u) + (half & (select(0u, 1u, rest != 0u) | ((q >> 1u) & 1u)));
  let scale = exponent + 1; // in two steps, since it may be too small or too large for one
  let size = f32(q) * bitcast<f32>(u32(scale / 2 + 127) << 23u) * bitcast<f32>(u32(scale - scale / 2 + 127) << 23u);
  return bitcast<f32>(bitcast<u32>(size) | ((n_bits ^ a_bits) & 0x80000000u));
}

fn finite(v: f32) -> bool { return (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u; }

// The f16 nearest to a finite v, ties to even, as an f32; infinite beyond 65,504.
fn nearest_f16(v: f32) -> f32 {
  let bits = bitcast<u32>(v);
  let magnitude = bits & 0x7fffffffu;
  let sign = bits & 0x80000000u;
  if (magnitude >= 0x477ff000u) { return bitcast<f32>(sign | 0x7f800000u); }
  if (magnitude >= 0x38800000u) {
    return bitcast<f32>(sign | ((magnitude + 0xfffu + ((magnitude >> 13u) & 1u)) & 0xffffe000u));
  }
  // Below 2^−14 an f16 counts steps of 2^−24; the significand is in steps of 2^(exponent − 150).
  let shift = 126u - (magnitude >> 23u);
  if (shift > 24u) { return bitcast<f32>(sign); }
  let significand = (magnitude & 0x7fffffu) | 0x800000u;
  let steps = (significand + (1u << (shift - 1u)) - 1u + ((significand >> shift) & 1u)) >> shift;
  return bitcast<f32>(sign | bitcast<u32>(f32(steps) * 5.9604644775390625e-8));
}
