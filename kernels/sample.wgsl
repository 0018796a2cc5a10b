// The next token of every sampled row; one workgroup per sample. Temperature 0 takes the most likely token, ties to the lowest index.
// Else tokens outside top-k and top-p are left out and one of the rest is drawn by the Gumbel-max trick (Maddison et al. 2014):
// argmax of logit / T + Gumbel noise is a draw from the softmax. Noise is a hash of (seed, position, token), so a sequence's text
// does not depend on what else is in the batch. Top-k and top-p are thresholds on the logit, found exactly by bisection on its bits:
// the least t with count(≥ t) ≥ k, then the least set whose mass reaches p of what top-k left. Equal logits stay or go together.
// A row with a NaN or infinite logit yields NO_TOKEN.
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [samples, VOCAB]
@group(0) @binding(1) var<storage, read> sampling: array<Sampling>; // [samples]
@group(0) @binding(2) var<storage, read_write> sampled: array<u32>; // [RING, BATCH_ROWS]

struct Sampling { temperature: f32, top_p: f32, top_k: u32, seed: u32 }

const NO_TOKEN = 0xffffffffu;
const LOWEST = -3.4e38;
const SUBGROUPS = WORKGROUP / SUBGROUP;
var<workgroup> shared_value: array<f32, SUBGROUPS>;
var<workgroup> shared_index: array<u32, SUBGROUPS>;

struct Best { value: f32, index: u32 }

// Greatest value of the workgroup, ties to the lowest index.
fn best_of_all(own: Best, local: u32) -> Best {
  var best = Best(subgroupMax(own.value), 0u);
  best.index = subgroupMin(select(NO_TOKEN, own.index, own.value == best.value));
  if (SUBGROUPS == 1u) { return best; }
  workgroupBarrier();
  if (local % SUBGROUP == 0u) {
    shared_value[local / SUBGROUP] = best.value;
    shared_index[local / SUBGROUP] = best.index;
  }
  workgroupBarrier();
  for (var i = 0u; i < SUBGROUPS; i++) {
    let value = shared_value[i];
    if (value > best.value || (value == best.value && shared_index[i] < best.index)) { best = Best(value, shared_index[i]); }
  }
  return best;
}

// Sum over the workgroup in a fixed order.
fn total(value: f32, local: u32) -> f32 {
  let own = subgroupAdd(value);
  if (SUBGROUPS == 1u) { return own; }
  workgroupBarrier();
  if (local % SUBGROUP == 0u) { shared_value[local / SUBGROUP] = own; }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < SUBGROUPS; i++) { sum += shared_value[i]; }
  return sum;
}

// Distance below the best logit in units of the temperature, as bits: for numbers ≥ 0 the order of bits is the order of values.
fn distance(row: u32, token: u32, best: f32, temperature: f32) -> u32 {
  return bitcast<u32>(abs((best - logits[row * VOCAB + token]) / temperature));
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
  var own = Best(LOWEST, NO_TOKEN);
  var broken = 0.0;
  for (var token = local; token < VOCAB; token += WORKGROUP) {
    let value = logits[row * VOCAB + token];
    if ((bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u) { broken += 1.0; }
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
    let position = row_position(sample_row(row)) + 1u; // of the token being drawn
    own = Best(LOWEST, NO_TOKEN);
    for (var t = local; t < VOCAB; t += WORKGROUP) {
      let bits = distance(row, t, greatest, want.temperature);
      let value = gumbel(hash(want.seed, position, t)) - bitcast<f32>(bits);
      if (bits <= limit && value > own.value) { own = Best(value, t); }
    }
    token = best_of_all(own, local).index;
  }
  if (total(broken, local) > 0.0) { token = NO_TOKEN; }
  if (local == 0u) {
    sampled[batch[0] % RING * BATCH_ROWS + row] = token;
    if (FEEDBACK) { next_row(sample_row(row), min(token, VOCAB - 1u)); }
  }
}
