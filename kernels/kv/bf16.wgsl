// KV format bf16: two dimensions are a u32 word, rounded to nearest even.
alias kv4 = vec2u;
alias kv8 = vec4u;
struct Dims8 { lo: vec4f, hi: vec4f }

fn to_bf16(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
fn kv_pack(v: vec4f) -> kv4 { return vec2u(to_bf16(v.x) | (to_bf16(v.y) << 16u), to_bf16(v.z) | (to_bf16(v.w) << 16u)); }
fn kv_unpack(v: kv4) -> vec4f {
  return vec4f(bitcast<f32>(v.x << 16u), bitcast<f32>(v.x & 0xffff0000u), bitcast<f32>(v.y << 16u), bitcast<f32>(v.y & 0xffff0000u));
}
fn kv_pack8(v: Dims8) -> kv8 { return vec4u(kv_pack(v.lo), kv_pack(v.hi)); }
fn kv_unpack8(v: kv8) -> Dims8 { return Dims8(kv_unpack(v.xy), kv_unpack(v.zw)); }
