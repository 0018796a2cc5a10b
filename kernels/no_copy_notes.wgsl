// A cache without notes.
fn copy_notes(source: u32, place: u32, lane: u32) {}
