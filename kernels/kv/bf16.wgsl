// KV format bf16: two dimensions are a u32 word, rounded to nearest even.
alias kv_four = vec2u;
fn kv_to_bf16(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
fn kv_pack(v: vec4f) -> kv_four { return vec2u(kv_to_bf16(v.x) | (kv_to_bf16(v.y) << 16u), kv_to_bf16(v.z) | (kv_to_bf16(v.w) << 16u)); }
fn kv_unpack(v: kv_four) -> vec4f {
  return vec4f(bitcast<f32>(v.x << 16u), bitcast<f32>(v.x & 0xffff0000u), bitcast<f32>(v.y << 16u), bitcast<f32>(v.y & 0xffff0000u));
}
