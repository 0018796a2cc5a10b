fn outside(source: u32, row: u32) -> f32 { return 0.0; }
fn outside4(source: u32, rows: vec4u) -> vec4f { return vec4f(); }
