// The end of a decode step: every sequence of the batch has one entry more in each of its tables, and the step counter moves on.
@group(0) @binding(0) var<storage, read_write> lengths: array<u32>; // [sequences, TABLES]

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sequence = row_sequence(group.y);
  for (var table = lane; table < TABLES; table += SUBGROUP) { lengths[sequence * TABLES + table] += 1u; }
  if (group.y == 0u && lane == 0u) { batch[0] += 1u; }
}
