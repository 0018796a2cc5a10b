// sums[g] = exclusive or of all words that subgroup g reads: the bytes a kernel can read, as a matrix-vector product does.
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = group.x * (WORKGROUP * PER_INVOCATION) + local;
  var sum = vec4u();
  for (var i = 0u; i < PER_INVOCATION; i += 4u) {
    let at = first + i * WORKGROUP;
    sum ^= (source[at] ^ source[at + WORKGROUP]) ^ (source[at + 2u * WORKGROUP] ^ source[at + 3u * WORKGROUP]);
  }
  let all = subgroupXor((sum.x ^ sum.y) ^ (sum.z ^ sum.w));
  if (local % SUBGROUP == 0u) { sums[group.x * (WORKGROUP / SUBGROUP) + local / SUBGROUP] = all; }
}
