// Standard deviation over the dimensions, unbiased, of (x − min) / range, for the key and the value of an entry; where the range is 0 the
// quotient counts as 0. The mean first, then the squares about it. One entry per invocation.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> keys: array<f32>; // [heads, HEAD_DIM, COLUMNS]
@group(0) @binding(2) var<storage, read> values: array<f32>; // [heads, HEAD_DIM, COLUMNS]
@group(0) @binding(3) var<storage, read> ranges: array<vec4f>; // [heads, PARTITIONS, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> deviations: array<vec2f>; // [heads, COLUMNS]: of the key, of the value

fn scaled(head: u32, part: u32, d: u32, entry: u32) -> vec2f {
  let row = (head * HEAD_DIM + d) * COLUMNS + entry;
  let range = ranges[(head * PARTITIONS + part) * HEAD_DIM + d];
  let width = range.yw;
  return select((vec2f(keys[row], values[row]) - range.xz) / select(width, vec2f(1.0), width == vec2f()), vec2f(), width == vec2f());
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let dims = min(HEAD_DIM, group.x + HEAD_DIM); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  let head = group.x;
  let entry = group.y * 64u + local;
  if (entry < SINKS) { return; }
  let part = (entry - SINKS) / LAG;
  if (part >= measured(lengths[head])) { return; }
  var mean = vec2f();
  for (var d = 0u; d < dims; d++) { mean += scaled(head, part, d, entry); }
  mean /= f32(HEAD_DIM);
  var squares = vec2f();
  for (var d = 0u; d < dims; d++) {
    let centred = scaled(head, part, d, entry) - mean;
    squares += centred * centred;
  }
  deviations[head * COLUMNS + entry] = sqrt(squares / f32(max(HEAD_DIM, 2u) - 1u));
}
