// The next token of every sampled row; one workgroup per sample. Temperature 0 takes the most likely token, ties to the lowest index.
// Else tokens outside top-k, top-p and min-p are left out (limits.wgsl) and one of the rest is drawn by the Gumbel-max trick (Maddison et
// al. 2014): argmax of logit / T + Gumbel noise is a draw from the softmax. Noise is a hash of (seed, position, token).
// `logit` is a slot (logit_plain.wgsl, logit_adjusted.wgsl): all of this goes by what it makes of the raw logits. A row with a NaN or
// infinite raw logit, or with every token forbidden, yields NO_TOKEN.
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [samples, VOCAB]
@group(0) @binding(2) var<storage, read_write> sampled: array<u32>; // [RING, BATCH_ROWS]

fn raw_logit(row: u32, token: u32) -> f32 { return logits[row * VOCAB + token]; }
fn also_counted(token: u32) -> u32 { return 0u; }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = group.y;
  let want = sampling[row];
  open_row(row, row_sequence(sample_row(row)));
  let best = best_of_row(row, local);
  var token = best.index;
  if (want.temperature > 0.0) {
    let limit = kept_limit(row, row, best.value, local);
    let position = row_position(sample_row(row)) + 1u; // of the token being drawn
    var own = Best(LOWEST, NO_TOKEN);
    for (var t = local; t < VOCAB; t += WORKGROUP) {
      let bits = distance(row, t, best.value, want.temperature);
      let value = gumbel(hash(want.seed, position, t, DRAW)) - bitcast<f32>(bits);
      if (bits <= limit && value > own.value) { own = Best(value, t); }
    }
    token = best_of_all(own, local).index;
  }
  if (best.index == NO_TOKEN) { token = NO_TOKEN; }
  if (local == 0u) { // which knows the token, so every lane has read its logits and counts
    if (token != NO_TOKEN) { count_chosen(token); }
    sampled[batch[0] % RING * BATCH_ROWS + row] = token;
    if (FEEDBACK) { next_row(sample_row(row), min(token, VOCAB - 1u)); }
  }
}
