// A cache without presses: nothing is written down beside its entries.
fn note(entry: u32, position: u32, lane: u32, key: ptr<function, array<vec4f, LANE_QUADS>>) {}
