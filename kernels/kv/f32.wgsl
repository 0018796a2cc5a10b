// KV format f32: four dimensions are one vec4.
alias kv4 = vec4f;
fn kv_pack(v: vec4f) -> kv4 { return v; }
fn kv_unpack(v: kv4) -> vec4f { return v; }
