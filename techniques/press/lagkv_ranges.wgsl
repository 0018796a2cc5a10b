// Least value and range of each dimension of keys and values over the entries of a partition (group.y + 1) that measures the one before it.
// One subgroup for a KV head (group.x), its lanes entries side by side.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads]
@group(0) @binding(1) var<storage, read> keys: array<f32>; // [heads, HEAD_DIM, COLUMNS]
@group(0) @binding(2) var<storage, read> values: array<f32>; // [heads, HEAD_DIM, COLUMNS]
@group(0) @binding(3) var<storage, read_write> ranges: array<vec4f>; // [heads, PARTITIONS, HEAD_DIM]: of keys, of values

const FAR = 3.4028234663852886e38;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let dims = min(HEAD_DIM, group.x + HEAD_DIM); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  if (group.y >= measured(lengths[group.x])) { return; }
  let first = SINKS + (group.y + 1u) * LAG;
  for (var d = 0u; d < dims; d++) {
    let row = (group.x * HEAD_DIM + d) * COLUMNS + first;
    var least = vec2f(FAR);
    var most = vec2f(-FAR);
    for (var i = local; i < LAG; i += SUBGROUP) {
      let both = vec2f(keys[row + i], values[row + i]);
      least = min(least, both);
      most = max(most, both);
    }
    least = subgroupMin(least);
    most = subgroupMax(most);
    if (local == 0u) { ranges[(group.x * PARTITIONS + group.y) * HEAD_DIM + d] = vec4f(least.x, most.x - least.x, least.y, most.y - least.y); }
  }
}
