fn gain4(k4: u32) -> vec4f { return vec4f(1.0); }
fn gain1(k: u32) -> f32 { return 1.0; }
