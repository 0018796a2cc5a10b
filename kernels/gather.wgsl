// Copy cache entries: entry source[i] of both pools goes to entry target[i]. Blocks that survivors leave are given back by the host
// only after it has chosen fresh ones for the targets, so no copy reads what another one writes. One subgroup per entry.
@group(0) @binding(0) var<storage, read> moves: array<vec2u>; // source, target

const UNITS = HEAD_DIM / 4u;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let entry = moves[group.y];
  for (var unit = lane; unit < UNITS; unit += SUBGROUP) {
    k_pool[entry.y * UNITS + unit] = k_pool[entry.x * UNITS + unit];
    v_pool[entry.y * UNITS + unit] = v_pool[entry.x * UNITS + unit];
  }
}
