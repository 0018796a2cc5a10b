// How many entries each head of a layer of a sequence has. One lane per head.
@group(0) @binding(0) var<storage, read_write> out: array<u32>; // [KV_HEADS]
@group(0) @binding(5) var<storage, read> slot: u32;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.x * SUBGROUP + lane;
  if (head < KV_HEADS) { out[head] = lengths[table_of(slot, head)]; }
}
