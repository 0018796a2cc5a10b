// Copy entries into their chunks: whole [HEADS, EACH, LONGEST] to parts [rows, EACH, COLUMNS], word by word. Workgroup (x, y) copies entries
// 64 y … 64 y + 63 of row x of `whole`, an invocation each. `place` (a slot) says where they go.
@group(0) @binding(0) var<storage, read> lengths: array<u32>;
@group(0) @binding(1) var<storage, read> whole: array<u32>;
@group(0) @binding(2) var<storage, read_write> parts: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let entry = group.y * 64u + local;
  let head = group.x / EACH;
  if (entry >= lengths[head]) { return; }
  let to = place(head, entry, lengths[head]);
  parts[(to.x * EACH + group.x % EACH) * COLUMNS + to.y] = whole[group.x * LONGEST + entry];
}
