fn bias4(c: u32) -> vec4f { return vec4f(); }
