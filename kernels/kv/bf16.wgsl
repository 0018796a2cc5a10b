// KV format bf16: four dimensions are two u32 words, rounded to nearest even.
alias kv4 = vec2u;
fn to_bf16(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
fn kv_pack(v: vec4f) -> kv4 { return vec2u(to_bf16(v.x) | (to_bf16(v.y) << 16u), to_bf16(v.z) | (to_bf16(v.w) << 16u)); }
fn kv_unpack(v: kv4) -> vec4f {
  return vec4f(bitcast<f32>(v.x << 16u), bitcast<f32>(v.x & 0xffff0000u), bitcast<f32>(v.y << 16u), bitcast<f32>(v.y & 0xffff0000u));
}
