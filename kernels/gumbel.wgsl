// Noise that is a function of (seed, position, token, purpose) alone, so a sequence's text does not depend on what else is in its batch.
// A purpose tells apart what is drawn for one position: tokens are drawn with DRAW, and accept.wgsl has purposes of its own beside it.
const DRAW = 0x9e3779b9u;

// pcg4d (Jarzynski and Olano 2020).
fn hash(seed: u32, position: u32, token: u32, purpose: u32) -> u32 {
  var v = vec4u(seed, position, token, purpose) * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> vec4u(16u);
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v.x;
}

// −log(−log(1 − v)), v in (0, 1) from the hash. The greatest noise has the smallest v, where log(1 − v) as written loses its digits
// (and may come out above 0 on a driver with a loose log), so there its series stands in.
fn gumbel(bits: u32) -> f32 {
  let v = min(f32(bits) + 0.5, 4294967040.0) * 2.3283064365386963e-10;
  let exponential = select(-log(1.0 - v), v * (1.0 + v * (0.5 + v * (1.0 / 3.0 + v * 0.25))), v < 0.015625);
  return -log(exponential);
}
