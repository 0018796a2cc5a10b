// The law of every row of a speculative round: its likeliest token, and at a temperature above 0 which tokens top-k, top-p and min-p keep,
// how much they weigh together and how probable the drafted token is. One workgroup per row: x is the place in the round, those of the
// model that decides from 0 to STEPS, then those of the draft; y is the sequence. Rows that a sequence lacks, and the draft's where
// only equality matters, return at once.
@group(0) @binding(8) var<storage, read_write> laws: array<Law>; // [ROWS + STEPS · SEQUENCES]

const RUN = 64u;

// Sum of exp(−distance) within `limit`, made in runs of 64 terms: it divides probabilities, so the tail of a large vocabulary must not
// be lost in it.
fn mass_within(row: u32, limit: u32, best: f32, temperature: f32, local: u32) -> f32 {
  var sum = 0.0;
  for (var start = local; start < VOCAB; start += RUN * WORKGROUP) {
    var run = 0.0;
    for (var token = start; token < min(start + RUN * WORKGROUP, VOCAB); token += WORKGROUP) {
      let bits = distance(row, token, best, temperature);
      if (bits <= limit) { run += exp(-bitcast<f32>(bits)); }
    }
    sum += run;
  }
  return total(sum, local);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let s = group.y;
  let of_draft = group.x > STEPS;
  let place = select(group.x, group.x - STEPS - 1u, of_draft);
  let count = drafted_count(s);
  let temperature = sampling[s].temperature;
  if (place > count || (of_draft && (place == count || !(temperature > 0.0)))) { return; }
  let row = select(rounds[s].first + place, draft_row(s, place), of_draft);
  open_place(s, place);
  let best = best_of_row(row, local);
  var law = Law(best.value, best.index, 0u, 1.0, 0.0, 0.0, 0.0, 0.0);
  if (temperature > 0.0) {
    law.limit = kept_limit(row, s, best.value, local);
    law.mass = mass_within(row, law.limit, best.value, temperature, local);
    if (place < count && drafted_token(s, place) < VOCAB) { law.drafted = probability(row, drafted_token(s, place), law, temperature); }
  }
  if (local == 0u) { laws[row] = law; }
}
