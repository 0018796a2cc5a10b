// What presses want to know of an entry, written down beside it when it is appended (kernels/kv_notes.ts). `key` holds what a read will give
// of the key, NOTE_NORM gets its length; NOTE_ATTENTION, what the entry has got so far, begins at nothing, and its position stands behind.
@group(0) @binding(11) var<storage, read_write> notes: array<u32>; // [entries, NOTE_WORDS]

fn note(entry: u32, position: u32, lane: u32, key: ptr<function, array<vec4f, LANE_QUADS>>) {
  let at = entry * NOTE_WORDS;
  if (NOTES_NORM) {
    var squares = 0.0;
    for (var j = 0u; j < LANE_QUADS; j++) {
      if (lane + j * SUBGROUP < HEAD_DIM / 4u) { squares += dot((*key)[j], (*key)[j]); }
    }
    let norm = sqrt(subgroupAdd(squares));
    if (lane == 0u) { notes[at + NOTE_NORM] = bitcast<u32>(norm); }
  }
  if (NOTES_ATTENTION && lane == 0u) {
    notes[at + NOTE_ATTENTION] = bitcast<u32>(0.0);
    notes[at + NOTE_ATTENTION + 1u] = position;
  }
}
