// Move the kept entries of a layer of a sequence into fresh blocks, in order. Nothing fresh is among what the tables have, so no copy reads
// what another one writes. Workgroup (head, part) takes TURN entries, a subgroup one after the other: where a workgroup is one subgroup,
// finding an entry is the same for all lanes.
@group(0) @binding(5) var<storage, read> slot: u32;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let table = table_of(slot, head);
  let first = group.y * TURN + select(local / SUBGROUP, 0u, WORKGROUP == SUBGROUP);
  let end = min(kept_of(head), (group.y + 1u) * TURN);
  for (var index = first; index < end; index += WORKGROUP / SUBGROUP) {
    copy_entry(kv_entry(table, old_index(head, index)), fresh_entry(head, index), local % SUBGROUP);
  }
}
