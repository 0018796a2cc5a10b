// Copy cache entries, whatever they hold: entry source[i] of both pools goes to entry target[i]. Blocks that survivors leave are given back
// by the host only after it has chosen fresh ones for the targets, so no copy reads what another one writes. One subgroup per entry.
@group(0) @binding(0) var<storage, read> moves: array<vec2u>; // source, target
@group(0) @binding(1) var<storage, read_write> k_words: array<u32>; // [entries, K_WORDS]
@group(0) @binding(2) var<storage, read_write> v_words: array<u32>; // [entries, V_WORDS]

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let entry = moves[group.y];
  for (var word = lane; word < K_WORDS; word += SUBGROUP) { k_words[entry.y * K_WORDS + word] = k_words[entry.x * K_WORDS + word]; }
  for (var word = lane; word < V_WORDS; word += SUBGROUP) { v_words[entry.y * V_WORDS + word] = v_words[entry.x * V_WORDS + word]; }
}
