// Tails of tables whose newest block is not full (kv/kivi.wgsl), when the host has moved their ends: a copy of another table's tail for a
// fork, or the keys of a quantized block, as they are read, where a table ends within it again. One subgroup per table.
@group(0) @binding(0) var<storage, read> moves: array<vec2u>; // table, and another table or K_RECENT + a block

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let table = moves[group.y].x;
  let source = moves[group.y].y;
  for (var i = lane; i < BLOCK * K_UNITS; i += SUBGROUP) {
    let at = table * BLOCK * K_UNITS + i;
    if (source >= K_RECENT) {
      let dims = k_read8((source & ~K_RECENT) * BLOCK + i / K_UNITS, i % K_UNITS);
      k_pool[at] = vec4u(k_pack(dims.lo), k_pack(dims.hi));
    } else {
      k_pool[at] = k_pool[source * BLOCK * K_UNITS + i];
    }
  }
}
