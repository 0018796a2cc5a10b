// The tokens that a draft has proposed, into the rows of the batch that verifies them: row first + 1 + i of a sequence reads its i-th drafted
// token. One workgroup per sequence, a lane per token.
@group(0) @binding(0) var<storage, read> drafted: array<u32>; // [steps, PITCH]
@group(0) @binding(1) var<storage, read> rounds: array<vec4u>; // [sequences]: first row, how many were drafted, …

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let round = rounds[group.y];
  if (lane < round.y) { batch[BATCH_HEADER + round.x + 1u + lane] = min(drafted[lane * PITCH + group.y], VOCAB - 1u); }
}
