// KV format f16: two dimensions are a u32 word. Values beyond the range of f16 are stored as its largest.
alias kv4 = vec2u;
alias kv8 = vec4u;
struct Dims8 { lo: vec4f, hi: vec4f }

fn kv_pack(v: vec4f) -> kv4 {
  let c = clamp(v, vec4f(-65504.0), vec4f(65504.0));
  return vec2u(pack2x16float(c.xy), pack2x16float(c.zw));
}
fn kv_unpack(v: kv4) -> vec4f { return vec4f(unpack2x16float(v.x), unpack2x16float(v.y)); }
fn kv_pack8(v: Dims8) -> kv8 { return vec4u(kv_pack(v.lo), kv_pack(v.hi)); }
fn kv_unpack8(v: kv8) -> Dims8 { return Dims8(kv_unpack(v.xy), kv_unpack(v.zw)); }
