// Scores of entries that must stay, the first FIRST or the last NEWEST of each head (the other is 0): the greatest score of all other
// entries of the layer + 1, rising by RISE from one of the last to the next. One workgroup does it all: what it reads and what it writes do
// not overlap.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [HEADS]
@group(0) @binding(1) var<storage, read_write> scores: array<f32>; // [HEADS, COLUMNS]

const LOWEST = -3.4028234663852886e38;
const SUBGROUPS = WORKGROUP / SUBGROUP;
var<workgroup> partial: array<f32, SUBGROUPS>;

fn greatest(value: f32, local: u32) -> f32 {
  let own = subgroupMax(value);
  if (SUBGROUPS == 1u) { return own; }
  if (local % SUBGROUP == 0u) { partial[local / SUBGROUP] = own; }
  workgroupBarrier();
  var most = LOWEST;
  for (var i = 0u; i < SUBGROUPS; i++) { most = max(most, partial[i]); }
  return most;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
  var own = LOWEST;
  for (var h = 0u; h < HEADS; h++) {
    let n = lengths[h];
    let end = n - min(n, NEWEST);
    for (var i = FIRST + local; i < end; i += WORKGROUP) { own = max(own, scores[h * COLUMNS + i]); }
  }
  let most = greatest(own, local);
  let above = select(most, 0.0, most == LOWEST) + 1.0;
  for (var h = 0u; h < HEADS; h++) {
    let n = lengths[h];
    let end = n - min(n, NEWEST);
    for (var i = end + local; i < n; i += WORKGROUP) { scores[h * COLUMNS + i] = above + RISE * f32(i - end); }
  }
  for (var h = 0u; h < HEADS; h++) {
    for (var i = local; i < min(FIRST, lengths[h]); i += WORKGROUP) { scores[h * COLUMNS + i] = above; }
  }
}
