@group(0) @binding(4) var<storage, read> gain: array<f32>; // [K], twice with SPLIT

fn gain1(k: u32) -> f32 { return gain[k]; }
