// Which tokens of a row may be drawn: those whose distance below the best logit, in units of the temperature, is within a limit. Top-k,
// top-p and min-p are each such a limit; that of top-k and top-p is found exactly by bisection on its bits: the least t within which
// there are k tokens, then the least t within which the mass reaches p of what top-k left; min-p's is −ln(minP), given. Equal logits stay
// or go together. The kernel defines `raw_logit`, and `logit` is a slot (logit_plain.wgsl, logit_adjusted.wgsl). All lanes of the
// workgroup must call these functions together.
@group(0) @binding(1) var<storage, read> sampling: array<Sampling>; // [rows of choices], kernels/sample.ts

struct Sampling {
  temperature: f32, top_p: f32, top_k: u32, seed: u32,
  min_p_limit: u32, repetition: f32, presence: f32, frequency: f32,
  logprobs: u32, unused_a: u32, unused_b: u32, unused_c: u32,
}

// The likeliest token, ties to the lowest index; index NO_TOKEN for a row with a NaN or infinite raw logit, or with every token forbidden.
fn best_of_row(row: u32, local: u32) -> Best {
  var own = Best(LOWEST, NO_TOKEN);
  var broken = 0.0;
  for (var token = local; token < VOCAB; token += WORKGROUP) {
    let raw = raw_logit(row, token);
    if ((bitcast<u32>(raw) & 0x7f800000u) == 0x7f800000u) { broken += 1.0; }
    let value = logit(raw, token);
    if (value > own.value) { own = Best(value, token); }
  }
  var best = best_of_all(own, local);
  if (total(broken, local) > 0.0) { best.index = NO_TOKEN; }
  return best;
}

// Distance below the best logit in units of the temperature, as bits: for numbers ≥ 0 the order of bits is the order of values.
fn distance(row: u32, token: u32, best: f32, temperature: f32) -> u32 {
  return bitcast<u32>(abs((best - logit(raw_logit(row, token), token)) / temperature));
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

// The limit of top-k, top-p and min-p together, of a row whose choice is described by sampling[choice], at a temperature above 0.
fn kept_limit(row: u32, choice: u32, best: f32, local: u32) -> u32 {
  let want = sampling[choice];
  var limit = 0x7f7fffffu;
  if (want.top_k > 0u && want.top_k < VOCAB) {
    limit = least_limit(row, limit, f32(want.top_k), best, want.temperature, true, local);
  }
  if (want.top_p < 1.0) {
    let mass = within(row, limit, best, want.temperature, false, local);
    limit = least_limit(row, limit, want.top_p * mass, best, want.temperature, false, local);
  }
  return min(limit, want.min_p_limit);
}
