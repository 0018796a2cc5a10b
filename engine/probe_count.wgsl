// count += 1: the smallest dispatch there is. Each needs the one before it, so a chain of them shows what a dependent dispatch costs.
@group(0) @binding(0) var<storage, read_write> count: array<u32>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
  if (local == 0u) { count[0] += 1u; }
}
