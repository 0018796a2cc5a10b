// What the two kernels of a speculative round share (accept_rows.wgsl, accept.wgsl): the round of each sequence, the logits of both models
// under one row number, and the law that follows from a row. Row numbers: those of `logits`, then ROWS + step · SEQUENCES + sequence
// for the draft's. In row i of a round, the i tokens drafted before it count as text.
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [ROWS, VOCAB], the model that decides
@group(0) @binding(5) var<storage, read> draft_logits: array<f32>; // [STEPS, SEQUENCES, VOCAB]; not read with HAS_DRAFT false
@group(0) @binding(6) var<storage, read> drafted: array<u32>; // [STEPS, PITCH]
@group(0) @binding(7) var<storage, read> rounds: array<Round>; // [SEQUENCES]

struct Round { first: u32, count: u32, position: u32, slot: u32 }

// Of a row: its best logit and that token (NO_TOKEN: the row cannot be used), and at a temperature above 0 what is kept, the sum of
// exp(−distance) over it, and the probability of the token that was drafted there.
struct Law { best: f32, token: u32, limit: u32, mass: f32, drafted: f32, unused_a: f32, unused_b: f32, unused_c: f32 }

var<private> round_sequence: u32;
var<private> text_before: u32; // drafted tokens that count as text; 0 where none has an effect

fn drafted_count(s: u32) -> u32 { return min(rounds[s].count, STEPS); }
fn drafted_token(s: u32, place: u32) -> u32 { return drafted[place * PITCH + s]; }
fn draft_row(s: u32, place: u32) -> u32 { return ROWS + place * SEQUENCES + s; }

fn raw_logit(row: u32, token: u32) -> f32 {
  if (HAS_DRAFT && row >= ROWS) { return draft_logits[(row - ROWS) * VOCAB + token]; }
  return logits[row * VOCAB + token];
}

fn also_counted(token: u32) -> u32 {
  var times = 0u;
  for (var i = 0u; i < text_before; i++) { times += select(0u, 1u, drafted_token(round_sequence, i) == token); }
  return times;
}

// `logit` is then that of the row at this place of the sequence's round.
fn open_place(s: u32, place: u32) {
  let want = sampling[s];
  open_row(s, rounds[s].slot);
  round_sequence = s;
  text_before = select(0u, place, want.repetition != 1.0 || want.presence != 0.0 || want.frequency != 0.0);
}

fn probability(row: u32, token: u32, law: Law, temperature: f32) -> f32 {
  let bits = distance(row, token, law.best, temperature);
  return select(0.0, exp(-bitcast<f32>(bits)) / law.mass, bits <= law.limit);
}
