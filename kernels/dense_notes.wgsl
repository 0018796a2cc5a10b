// One of the words that are noted beside entries, of every entry of a layer of a sequence, in the order of their positions. Workgroup
// (head, part) takes TURN entries.
@group(0) @binding(0) var<storage, read_write> out: array<u32>; // [KV_HEADS, COLUMNS]
@group(0) @binding(1) var<storage, read> notes: array<u32>; // [entries, NOTE_WORDS]
@group(0) @binding(5) var<storage, read> slot: u32;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let table = table_of(slot, group.x);
  let end = min(lengths[table], (group.y + 1u) * TURN);
  for (var index = group.y * TURN + local; index < end; index += WORKGROUP) {
    out[group.x * COLUMNS + index] = notes[kv_entry(table, index) * NOTE_WORDS + WORD];
  }
}
