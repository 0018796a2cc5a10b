// How many entries the heads keep, out of the parameters: safe[h] each head for itself, together[0] all of them. One invocation per head.
@group(0) @binding(0) var<storage, read> params: array<f32>;
@group(0) @binding(1) var<storage, read_write> safe: array<u32>;
@group(0) @binding(2) var<storage, read_write> together: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
  for (var head = local; head < HEADS; head += 64u) { safe[head] = u32(params[TOTAL + 1u]); }
  if (local == 0u) { together[0] = u32(params[TOTAL]); }
}
