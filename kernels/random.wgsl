// Fill a weight with seeded normal numbers, so that a model of true size can be timed without its checkpoint. One u32 word of the
// weight per invocation: one f32, or two 16-bit values. Each value is a function of (seed, its index) alone.
@group(0) @binding(0) var<storage, read_write> words: array<u32>;

// pcg3d (Jarzynski and Olano 2020).
fn hash(index: u32) -> vec3u {
  var v = vec3u(index, SEED, 0x9e3779b9u) * 1664525u + 1013904223u;
  v.x += v.y * v.z; v.y += v.z * v.x; v.z += v.x * v.y;
  v ^= v >> vec3u(16u);
  v.x += v.y * v.z; v.y += v.z * v.x; v.z += v.x * v.y;
  return v;
}

// Box–Muller: two independent normal numbers.
fn normals(index: u32) -> vec2f {
  let bits = hash(index);
  // A driver's log of a number just below 1 may come out above 0, and one NaN would spoil a whole model.
  let radius = sqrt(max(0.0, -2.0 * log((f32(bits.x >> 9u) + 0.5) * 1.1920928955078125e-7)));
  let angle = 6.283185307179586 * (f32(bits.y >> 8u) * 5.9604644775390625e-8);
  return SCALE * radius * vec2f(cos(angle), sin(angle));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let index = (group.y * 65535u + group.x) * 64u + local;
  if (index >= WORDS) { return; }
  words[index] = pack(normals(index));
}
