// KV format f32: four dimensions are one vec4.
alias kv4 = vec4f;
alias kv8 = Dims8;
struct Dims8 { lo: vec4f, hi: vec4f }

fn kv_pack(v: vec4f) -> kv4 { return v; }
fn kv_unpack(v: kv4) -> vec4f { return v; }
fn kv_pack8(v: Dims8) -> kv8 { return v; }
fn kv_unpack8(v: kv8) -> Dims8 { return v; }
