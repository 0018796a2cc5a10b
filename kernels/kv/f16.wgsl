// KV format f16: two dimensions are a u32 word. Values beyond the range of f16 are stored as its largest.
alias kv_four = vec2u;
fn kv_pack(v: vec4f) -> kv_four {
  let c = clamp(v, vec4f(-65504.0), vec4f(65504.0));
  return vec2u(pack2x16float(c.xy), pack2x16float(c.zw));
}
fn kv_unpack(v: kv_four) -> vec4f { return vec4f(unpack2x16float(v.x), unpack2x16float(v.y)); }
