// What is noted beside an entry moves with it.
@group(0) @binding(9) var<storage, read_write> notes: array<u32>; // [entries, NOTE_WORDS]
fn copy_notes(source: u32, place: u32, lane: u32) {
  if (lane < NOTE_WORDS) { notes[place * NOTE_WORDS + lane] = notes[source * NOTE_WORDS + lane]; }
}
