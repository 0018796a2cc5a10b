@group(0) @binding(3) var<storage, read> bias: array<vec4f>;

fn bias4(c: u32) -> vec4f { return bias[c]; }
