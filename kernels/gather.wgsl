// Copy cache entries: source[i] goes to target[i] (`copy_entry`, a slot). Blocks that survivors leave are given back by the host only after
// it has chosen fresh ones for the targets, so no copy reads what another one writes. One subgroup per entry.
@group(0) @binding(0) var<storage, read> moves: array<vec2u>; // source, target

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let entry = moves[group.y];
  copy_entry(entry.x, entry.y, lane);
}
