// The mean score of each chunk of CHUNK entries over all heads, the last chunk over what it has; how many chunks there are, and how many of
// them are kept: params[KEEP_AT]. scores: [HEADS, LONGEST], all heads equally long. Workgroup y has chunks 64 y … 64 y + 63, an invocation each.
@group(0) @binding(0) var<storage, read> lengths: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<f32>;
@group(0) @binding(2) var<storage, read> scores: array<f32>;
@group(0) @binding(3) var<storage, read_write> means: array<f32>;
@group(0) @binding(4) var<storage, read_write> chunks: array<u32>;
@group(0) @binding(5) var<storage, read_write> keep: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let length = lengths[0];
  let chunk = group.y * 64u + local;
  if (chunk == 0u) {
    chunks[0] = (length + CHUNK - 1u) / CHUNK;
    keep[0] = u32(params[KEEP_AT]);
  }
  let first = chunk * CHUNK;
  if (first >= length) { return; }
  let end = min(first + CHUNK, length);
  // Each score is scaled before it is added: protected entries score near the end of what f32 can hold.
  let scale = 1.0 / f32((end - first) * HEADS);
  var sum = 0.0;
  for (var head = 0u; head < HEADS; head++) {
    for (var entry = first; entry < end; entry++) { sum += scale * scores[head * LONGEST + entry]; }
  }
  means[chunk] = sum;
}
