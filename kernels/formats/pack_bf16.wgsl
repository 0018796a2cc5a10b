// Truncation is good enough for random numbers.
fn pack(v: vec2f) -> u32 { return (bitcast<u32>(v.x) >> 16u) | (bitcast<u32>(v.y) & 0xffff0000u); }
