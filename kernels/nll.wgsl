// How surprised the model is at the tokens that truly follow, from its raw logits l; one workgroup per sample of the batch.
// −log p(t) = log Σ exp(l − m) + m − l[t] with m the greatest logit, so no exponential overflows and both terms are ≥ 0; the sum is made
// in runs of 64 terms, which keeps an f32 sum over a large vocabulary good to a few units in the last place. Sample i of step s finds its
// token at targets[s mod STEPS][i] and writes out[s mod STEPS][i]; in decoding the step counts on by itself, and the target is the next
// id of its row, so many steps run without the host. `compare` is a slot (nll_alone.wgsl, nll_against.wgsl): it adds what another
// model's logits of the same row say. A row with a NaN or infinite logit has the flag BROKEN, and no other of its words means anything.
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [samples, VOCAB]
@group(0) @binding(1) var<storage, read> targets: array<u32>; // [STEPS, SAMPLES]
@group(0) @binding(2) var<storage, read_write> out: array<u32>; // [STEPS, SAMPLES, WORDS]

const RUN = 64u;

// Of a row of logits: the likeliest token, Σ exp(l − its logit), and whether every logit is a finite number.
struct Row { best: Best, sum: f32, finite: bool }

fn is_finite(value: f32) -> bool { return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u; }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let sample = group.y;
  let at = batch[0] % STEPS * SAMPLES + sample;
  let wanted = targets[at];
  let first = sample * VOCAB;
  var own = Best(LOWEST, NO_TOKEN);
  var broken = 0.0;
  for (var t = local; t < VOCAB; t += WORKGROUP) {
    let value = logits[first + t];
    if (!is_finite(value)) { broken += 1.0; }
    if (value > own.value) { own = Best(value, t); }
  }
  var row: Row;
  row.best = best_of_all(own, local);
  row.finite = total(broken, local) == 0.0 && row.best.index != NO_TOKEN;
  var sum = 0.0;
  for (var start = local; start < VOCAB; start += RUN * WORKGROUP) {
    var run = 0.0;
    for (var t = start; t < min(start + RUN * WORKGROUP, VOCAB); t += WORKGROUP) { run += exp(logits[first + t] - row.best.value); }
    sum += run;
  }
  row.sum = total(sum, local);
  if (local == 0u) {
    out[at * WORDS] = bitcast<u32>(log(row.sum) + (row.best.value - logits[first + wanted]));
    out[at * WORDS + 1u] = select(select(0u, HIT, row.best.index == wanted), BROKEN, !row.finite);
  }
  compare(row, first, wanted, at * WORDS, local);
  if (FEEDBACK && local == 0u) { next_row(sample_row(sample), wanted); }
}
