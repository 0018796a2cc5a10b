// to = source, one vec4 after another: the bytes a kernel can move, read and write together.
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> to: array<vec4u>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = group.x * (WORKGROUP * PER_INVOCATION) + local;
  for (var i = 0u; i < PER_INVOCATION; i += 4u) {
    let at = first + i * WORKGROUP;
    let a = source[at];
    let b = source[at + WORKGROUP];
    let c = source[at + 2u * WORKGROUP];
    let d = source[at + 3u * WORKGROUP];
    to[at] = a;
    to[at + WORKGROUP] = b;
    to[at + 2u * WORKGROUP] = c;
    to[at + 3u * WORKGROUP] = d;
  }
}
