// Every entry gets the mark of its chunk: scores [HEADS, LONGEST], marks [chunks]. A head that does not fill one chunk keeps its scores.
// Workgroup (x, y) has entries 64 y … 64 y + 63 of head x, an invocation each.
@group(0) @binding(0) var<storage, read> lengths: array<u32>;
@group(0) @binding(1) var<storage, read> marks: array<f32>;
@group(0) @binding(2) var<storage, read_write> scores: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let entry = group.y * 64u + local;
  let length = lengths[group.x];
  if (entry >= length || length < CHUNK) { return; }
  scores[group.x * LONGEST + entry] = marks[entry / CHUNK];
}
