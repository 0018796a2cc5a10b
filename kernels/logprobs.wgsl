// What the model thought of the tokens just sampled, from its raw logits l; one workgroup per sample. log p(t) = l[t] − m − log Σ exp(l − m)
// with m the greatest logit, so no exponential overflows; the sum is made in runs of 64 terms, which keeps an f32 sum over a large
// vocabulary good to a few units in the last place. The rank counts greater logits. The n likeliest are found in n passes, each for the
// best token behind the one before it in the order (greater logit, then lower index): n is small, the row stays in the cache, and
// neither a sort nor memory of its own is needed.
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [samples, VOCAB]
@group(0) @binding(1) var<storage, read> sampling: array<u32>; // [samples, SAMPLING_WORDS]
@group(0) @binding(2) var<storage, read> sampled: array<u32>; // [RING, BATCH_ROWS]
@group(0) @binding(3) var<storage, read_write> out: array<u32>; // [RING, BATCH_ROWS, LOGPROB_WORDS]

const RUN = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = group.y;
  let asked = sampling[row * SAMPLING_WORDS + LOGPROBS_WORD]; // 1 + the number of likeliest tokens
  let at = batch[0] % RING * BATCH_ROWS + row;
  let token = sampled[at];
  if (asked == 0u || token == NO_TOKEN) { return; }
  let first = row * VOCAB;
  let chosen = logits[first + token];
  let into = at * LOGPROB_WORDS;
  var greater = 0.0;
  for (var t = local; t < VOCAB; t += WORKGROUP) { if (logits[first + t] > chosen) { greater += 1.0; } }
  let rank = total(greater, local);
  let wanted = min(asked - 1u, MAX_LOGPROBS);
  var last = Best(-LOWEST, NO_TOKEN);
  var greatest = 0.0;
  for (var n = 0u; n < max(wanted, 1u); n++) { // the first is needed in any case
    var own = Best(LOWEST, NO_TOKEN);
    for (var t = local; t < VOCAB; t += WORKGROUP) {
      let value = logits[first + t];
      let behind = n == 0u || value < last.value || (value == last.value && t > last.index);
      if (behind && value > own.value) { own = Best(value, t); }
    }
    last = best_of_all(own, local);
    if (n == 0u) { greatest = last.value; }
    if (local == 0u && n < wanted) {
      out[into + 2u + 2u * n] = last.index;
      out[into + 3u + 2u * n] = bitcast<u32>(last.value - greatest); // less the logarithm below
    }
  }
  var sum = 0.0;
  for (var start = local; start < VOCAB; start += RUN * WORKGROUP) {
    var run = 0.0;
    for (var t = start; t < min(start + RUN * WORKGROUP, VOCAB); t += WORKGROUP) { run += exp(logits[first + t] - greatest); }
    sum += run;
  }
  let log_sum = log(total(sum, local));
  if (local != 0u) { return; }
  out[into] = bitcast<u32>(chosen - greatest - log_sum);
  out[into + 1u] = u32(rank);
  for (var n = 0u; n < wanted; n++) {
    let word = into + 3u + 2u * n;
    out[word] = bitcast<u32>(bitcast<f32>(out[word]) - log_sum);
  }
}
