// KV format f32: four dimensions are one vec4.
alias kv_four = vec4f;
fn kv_pack(v: vec4f) -> kv_four { return v; }
fn kv_unpack(v: kv_four) -> vec4f { return v; }
