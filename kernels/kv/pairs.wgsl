// 16-bit floats, eight dimensions to an element of the pool: GPUs want loads of 16 bytes.
alias kv_word = vec4u;
fn kv_read8(entry: u32, unit: u32) -> Dims8 {
  let packed = kv_pool[entry * (QUADS / 2u) + unit];
  return Dims8(kv_unpack(packed.xy), kv_unpack(packed.zw));
}
