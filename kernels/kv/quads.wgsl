// Floats, four dimensions to an element of the pool: what the software adapter's kernels read at a time. They have no scales to keep at hand.
alias kv_word = kv_four;
alias kv_scale_words = u32;
fn kv_scales(entry: u32) -> kv_scale_words { return 0u; }
fn kv_next4(entry: u32, quad: u32, scale: ptr<function, u32>) -> vec4f { return kv_unpack(kv_pool[entry * QUADS + quad]); }
fn kv_shared4(entry: u32, quad: u32, scales: kv_scale_words, holder: u32) -> vec4f { return kv_unpack(kv_pool[entry * QUADS + quad]); }
fn kv_read8(entry: u32, unit: u32) -> Dims8 {
  let at = entry * QUADS + unit * 2u;
  return Dims8(kv_unpack(kv_pool[at]), kv_unpack(kv_pool[at + 1u]));
}
