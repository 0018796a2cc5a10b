// Long sequences are split: a workgroup takes one stretch of keys and leaves what it has of every query, merge_splits.wgsl adds it up.
// How many splits a row has depends on its own keys alone, so its result does not depend on what else is in the batch; a row with one
// split is finished at once, and merge_splits.wgsl passes it by.
@group(0) @binding(10) var<storage, read_write> partials: array<vec4f>; // [rows, HEADS, SPLITS, QUADS + 1]

fn splits_of(keys: u32) -> u32 { return clamp((keys + SPLIT_KEYS - 1u) / SPLIT_KEYS, 1u, SPLITS); }

// Keys of each split but the last, in whole turns of a workgroup.
fn keys_per_split(keys: u32) -> u32 {
  let splits = splits_of(keys);
  if (splits == 1u) { return keys; }
  return ((keys + splits - 1u) / splits + TURN - 1u) / TURN * TURN;
}

// Σ 2^(score − top) · value, and top and Σ 2^(score − top) behind them; scores have a factor log2 e.
fn put_partial(row: u32, query_head: u32, split: u32, quad: u32, value: vec4f) {
  partials[((row * HEADS + query_head) * SPLITS + split) * (QUADS + 1u) + quad] = value;
}
