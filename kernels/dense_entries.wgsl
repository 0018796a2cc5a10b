// Keys or values of a layer of a sequence as numbers, a dimension's side by side, in the order of their positions. Workgroup (head, part)
// takes TURN entries; its lanes take one each, so that neighbours write side by side, and eight dimensions at a time.
@group(0) @binding(0) var<storage, read_write> out: array<f32>; // [KV_HEADS, HEAD_DIM, COLUMNS]
@group(0) @binding(5) var<storage, read> slot: u32;

const QUADS = HEAD_DIM / 4u;

fn read8(entry: u32, unit: u32) -> Dims8 {
  if (KEYS) { return k_read8(entry, unit); }
  return v_read8(entry, unit);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let table = table_of(slot, head);
  let end = min(lengths[table], (group.y + 1u) * TURN);
  // HEAD_DIM / 8, but unknown to the compiler: unrolled whole, the loop takes a software adapter seconds to compile.
  let units = arrayLength(&out) / (KV_HEADS * COLUMNS * 8u);
  for (var index = group.y * TURN + local; index < end; index += WORKGROUP) {
    let entry = kv_entry(table, index);
    for (var unit = 0u; unit < units; unit++) {
      let dims = read8(entry, unit);
      let at = (head * HEAD_DIM + unit * 8u) * COLUMNS + index;
      for (var i = 0u; i < 4u; i++) {
        out[at + i * COLUMNS] = dims.lo[i];
        out[at + (i + 4u) * COLUMNS] = dims.hi[i];
      }
    }
  }
}
