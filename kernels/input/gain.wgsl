@group(0) @binding(4) var<storage, read> gain: array<vec4f>; // [K / 4], twice with SPLIT

fn gain4(k4: u32) -> vec4f { return gain[k4]; }
