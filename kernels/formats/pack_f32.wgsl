fn pack(v: vec2f) -> u32 { return bitcast<u32>(v.x); }
