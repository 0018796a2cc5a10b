// The verdict on what was drafted, and one token more; one workgroup per sequence, which finds the laws of its rows in `laws`
// (accept_rows.wgsl). Temperature 0 accepts a drafted token while it is the likeliest. Else token d of probability p(d), drafted with
// probability q(d), is accepted when u · q(d) < p(d) with u uniform in [0, 1), so with probability min(1, p(d) / q(d)); at the first
// rejection the token is drawn from what p has above q, max(0, p − q), by argmax of its logarithm + Gumbel noise. Either way it follows p
// (Leviathan et al. 2023, Chen et al. 2023). A text draft has q(d) = 1. Behind the last accepted token one is drawn as sample.wgsl does.
@group(0) @binding(2) var<storage, read_write> out: array<u32>; // [SEQUENCES, STEPS + 2]
@group(0) @binding(8) var<storage, read> laws: array<Law>; // [ROWS + STEPS · SEQUENCES]

const ACCEPT = 0x7feb352du;
const RESIDUAL = 0x846ca68bu;

// Whether the token drafted here came from a distribution that is known, or is certain.
fn proposed(s: u32, place: u32) -> bool {
  if (drafted_token(s, place) >= VOCAB) { return false; }
  return !HAS_DRAFT || laws[draft_row(s, place)].token != NO_TOKEN;
}

fn accepted(s: u32, place: u32) -> bool {
  let law = laws[rounds[s].first + place];
  if (law.token == NO_TOKEN) { return false; }
  if (!(sampling[s].temperature > 0.0)) { return drafted_token(s, place) == law.token; }
  if (!proposed(s, place)) { return false; }
  var q = 1.0;
  if (HAS_DRAFT) { q = laws[draft_row(s, place)].drafted; }
  let bits = hash(sampling[s].seed, rounds[s].position + place + 1u, 0u, ACCEPT);
  return f32(bits >> 8u) * 5.9604644775390625e-8 * q < law.drafted;
}

// From p of the row at `place`, or behind a rejection from what p has above q, and from p where that is nothing: of both the best is kept
// in one pass, with the same noise.
fn draw(s: u32, place: u32, rejected: bool, local: u32) -> u32 {
  let want = sampling[s];
  let row = rounds[s].first + place;
  let law = laws[row];
  let position = rounds[s].position + place + 1u; // of the token being drawn
  let seed = select(want.seed, hash(want.seed, position, 0u, RESIDUAL), rejected);
  var own = Best(LOWEST, NO_TOKEN);
  var rest = Best(LOWEST, NO_TOKEN);
  var refused = NO_TOKEN;
  var draft = draft_row(s, 0u);
  if (rejected && proposed(s, place)) {
    refused = drafted_token(s, place);
    draft = draft_row(s, place);
  }
  for (var t = local; t < VOCAB; t += WORKGROUP) {
    let bits = distance(row, t, law.best, want.temperature);
    if (bits > law.limit) { continue; }
    let noise = gumbel(hash(seed, position, t, DRAW));
    let value = noise - bitcast<f32>(bits);
    if (value > own.value) { own = Best(value, t); }
    if (refused == NO_TOKEN || t == refused) { continue; } // p(refused) ≤ q(refused), or it would have been accepted
    var score = value;
    if (HAS_DRAFT) {
      let above = exp(-bitcast<f32>(bits)) / law.mass - probability(draft, t, laws[draft], want.temperature);
      score = select(LOWEST, noise + log(max(above, 1.2e-38)), above > 1.2e-38);
    }
    if (score > rest.value) { rest = Best(score, t); }
  }
  let token = best_of_all(own, local).index;
  let above_q = best_of_all(rest, local).index;
  return select(above_q, token, above_q == NO_TOKEN);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let s = group.y;
  let count = drafted_count(s);
  var place = 0u;
  while (place < count && accepted(s, place)) { place++; }
  var token = laws[rounds[s].first + place].token;
  if (token != NO_TOKEN && sampling[s].temperature > 0.0) {
    open_place(s, place);
    token = draw(s, place, place < count, local);
  }
  if (local != 0u) { return; } // lane 0 knows the token, so every lane has read its logits and counts
  let at = s * (STEPS + 2u);
  out[at] = place;
  for (var i = 0u; i <= STEPS; i++) {
    var id = NO_TOKEN;
    if (i < place) { id = drafted_token(s, i); } else if (i == place) { id = token; }
    out[at + 1u + i] = id;
  }
  open_row(s, rounds[s].slot);
  for (var i = 0u; i < place; i++) { count_chosen(drafted_token(s, i)); }
  if (token != NO_TOKEN) { count_chosen(token); }
}
