// Copy scores back out of the chunks: parts [rows, COLUMNS] to whole [HEADS, LONGEST]. Workgroup (x, y) copies those of entries
// 64 y … 64 y + 63 of head x, an invocation each. `place` (a slot) says where they are.
@group(0) @binding(0) var<storage, read> lengths: array<u32>;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> whole: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let entry = group.y * 64u + local;
  if (entry >= lengths[group.x]) { return; }
  let at = place(group.x, entry, lengths[group.x]);
  whole[group.x * LONGEST + entry] = parts[at.x * COLUMNS + at.y];
}
