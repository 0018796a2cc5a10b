// Copy a cache entry, whatever it holds, codes and scales alike: key, value, and what is noted beside them (`copy_notes`, a slot). The lanes
// of a subgroup take neighbouring words; K_WORDS and V_WORDS count what `word` is (a slot: one u32 or four).
@group(0) @binding(3) var<storage, read_write> k_words: array<word>; // [entries, K_WORDS]
@group(0) @binding(4) var<storage, read_write> v_words: array<word>; // [entries, V_WORDS]

fn copy_entry(source: u32, place: u32, lane: u32) {
  for (var i = lane; i < K_WORDS; i += SUBGROUP) { k_words[place * K_WORDS + i] = k_words[source * K_WORDS + i]; }
  for (var i = lane; i < V_WORDS; i += SUBGROUP) { v_words[place * V_WORDS + i] = v_words[source * V_WORDS + i]; }
  copy_notes(source, place, lane);
}
