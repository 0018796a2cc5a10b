// Scores of kept entries become KEPT, those of the others OTHERS, or stay.
@group(0) @binding(0) var<storage, read_write> scores: array<vec4u>; // f32 [HEADS, COLUMNS]

fn entry(head: u32, index: u32, kept: bool, place: u32) {
  let at = head * COLUMNS + index;
  if (kept) { scores[at / 4u][at % 4u] = bitcast<u32>(KEPT); } else if (MARK_OTHERS) { scores[at / 4u][at % 4u] = bitcast<u32>(OTHERS); }
}
