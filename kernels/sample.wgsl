// The next token of every sampled row; one workgroup per sample. Temperature 0 takes the most likely token, ties to the lowest index.
// Else tokens outside top-k, top-p and min-p are left out and one of the rest is drawn by the Gumbel-max trick (Maddison et al. 2014):
// argmax of logit / T + Gumbel noise is a draw from the softmax. Noise is a hash of (seed, position, token), so a sequence's text
// does not depend on what else is in the batch. Each filter is a limit on the distance below the best logit, that of top-k and top-p
// found exactly by bisection on its bits: the least t within which there are k tokens, then the least t within which the mass reaches p
// of what top-k left; min-p's is −ln(minP), given. Equal logits stay or go together.
// `logit` is a slot (logit_plain.wgsl, logit_adjusted.wgsl): all of this goes by what it makes of the raw logits. A row with a NaN or
// infinite raw logit, or with every token forbidden, yields NO_TOKEN.
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [samples, VOCAB]
@group(0) @binding(1) var<storage, read> sampling: array<Sampling>; // [samples]
@group(0) @binding(2) var<storage, read_write> sampled: array<u32>; // [RING, BATCH_ROWS]

struct Sampling {
  temperature: f32, top_p: f32, top_k: u32, seed: u32,
  min_p_limit: u32, repetition: f32, presence: f32, frequency: f32,
  logprobs: u32, unused_a: u32, unused_b: u32, unused_c: u32,
}

// Distance below the best logit in units of the temperature, as bits: for numbers ≥ 0 the order of bits is the order of values.
fn distance(row: u32, token: u32, best: f32, temperature: f32) -> u32 {
  return bitcast<u32>(abs((best - logit(logits[row * VOCAB + token], token)) / temperature));
}

// How many tokens, or how much exp(−distance), lie within `limit`.
fn within(row: u32, limit: u32, best: f32, temperature: f32, count: bool, local: u32) -> f32 {
  var sum = 0.0;
  for (var token = local; token < VOCAB; token += WORKGROUP) {
    let bits = distance(row, token, best, temperature);
    if (bits <= limit) { sum += select(exp(-bitcast<f32>(bits)), 1.0, count); }
  }
  return total(sum, local);
}

// Least limit ≤ `most` within which at least `wanted` lies.
fn least_limit(row: u32, most: u32, wanted: f32, best: f32, temperature: f32, count: bool, local: u32) -> u32 {
  var low = 0u;
  var high = most;
  for (var step = 0u; step < 31u; step++) { // the bits of a finite number ≥ 0 are below 2³¹
    let middle = low + (high - low) / 2u;
    if (within(row, middle, best, temperature, count, local) >= wanted) { high = middle; } else { low = min(middle + 1u, high); }
  }
  return high;
}

// pcg4d (Jarzynski and Olano 2020).
fn hash(seed: u32, position: u32, token: u32) -> u32 {
  var v = vec4u(seed, position, token, 0x9e3779b9u) * 1664525u + 1013904223u;
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

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = group.y;
  let want = sampling[row];
  open_row(row);
  var own = Best(LOWEST, NO_TOKEN);
  var broken = 0.0;
  for (var token = local; token < VOCAB; token += WORKGROUP) {
    let raw = logits[row * VOCAB + token];
    if ((bitcast<u32>(raw) & 0x7f800000u) == 0x7f800000u) { broken += 1.0; }
    let value = logit(raw, token);
    if (value > own.value) { own = Best(value, token); }
  }
  var best = best_of_all(own, local);
  var token = best.index;
  if (want.temperature > 0.0) {
    let greatest = best.value;
    var limit = 0x7f7fffffu;
    if (want.top_k > 0u && want.top_k < VOCAB) {
      limit = least_limit(row, limit, f32(want.top_k), greatest, want.temperature, true, local);
    }
    if (want.top_p < 1.0) {
      let mass = within(row, limit, greatest, want.temperature, false, local);
      limit = least_limit(row, limit, want.top_p * mass, greatest, want.temperature, false, local);
    }
    limit = min(limit, want.min_p_limit);
    let position = row_position(sample_row(row)) + 1u; // of the token being drawn
    own = Best(LOWEST, NO_TOKEN);
    for (var t = local; t < VOCAB; t += WORKGROUP) {
      let bits = distance(row, t, greatest, want.temperature);
      let value = gumbel(hash(want.seed, position, t)) - bitcast<f32>(bits);
      if (bits <= limit && value > own.value) { own = Best(value, t); }
    }
    token = best_of_all(own, local).index;
  }
  if (total(broken, local) > 0.0 || best.index == NO_TOKEN) { token = NO_TOKEN; }
  if (local == 0u) { // which knows the token, so every lane has read its logits and counts
    if (token != NO_TOKEN) { count_chosen(token); }
    sampled[batch[0] % RING * BATCH_ROWS + row] = token;
    if (FEEDBACK) { next_row(sample_row(row), min(token, VOCAB - 1u)); }
  }
}
