// How long each chunk is, and how many of its entries are kept: CHUNK and params[KEEP_AT] where the head fills it, what is left and
// params[KEEP_AT + 1] in the rows of the rests, and nothing elsewhere. One invocation per row.
@group(0) @binding(0) var<storage, read> lengths: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<f32>;
@group(0) @binding(2) var<storage, read_write> cut_lengths: array<u32>;
@group(0) @binding(3) var<storage, read_write> rest_lengths: array<u32>;
@group(0) @binding(4) var<storage, read_write> keep: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) invocation: vec3u) {
  let row = invocation.x;
  if (row >= (CHUNKS + 1u) * HEADS) { return; }
  let length = lengths[row % HEADS];
  let chunk = row / HEADS;
  let is_rest = chunk == CHUNKS;
  var own = length % CHUNK;
  if (!is_rest) { own = select(0u, CHUNK, (chunk + 1u) * CHUNK <= length); }
  cut_lengths[row] = own;
  keep[row] = select(0u, u32(params[select(KEEP_AT, KEEP_AT + 1u, is_rest)]), own > 0u);
  if (is_rest) { rest_lengths[row % HEADS] = own; }
}
