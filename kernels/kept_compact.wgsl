// The indices of kept entries, ascending.
@group(0) @binding(0) var<storage, read> scores: array<vec4u>; // f32 [HEADS, COLUMNS]
@group(0) @binding(3) var<storage, read_write> order: array<u32>; // [HEADS, COLUMNS]

fn entry(head: u32, index: u32, kept: bool, place: u32) {
  if (kept) { order[head * COLUMNS + place] = index; }
}
