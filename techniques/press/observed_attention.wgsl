// score = attention / (GROUP · queries that could see the entry), which are those from its own position on. One entry per invocation.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> attention: array<f32>; // [heads, COLUMNS]
@group(0) @binding(2) var<storage, read> positions: array<u32>; // [heads, COLUMNS]
@group(0) @binding(3) var<storage, read> params: array<f32>; // tokens seen
@group(0) @binding(4) var<storage, read_write> scores: array<f32>; // [heads, COLUMNS]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let entry = group.y * 64u + local;
  if (entry >= lengths[group.x]) { return; }
  let at = group.x * COLUMNS + entry;
  let queries = max(1.0, params[0] - f32(positions[at]));
  scores[at] = attention[at] / (f32(GROUP) * queries);
}
