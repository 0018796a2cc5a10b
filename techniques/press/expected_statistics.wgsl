// The greatest logit of a query head (group.x) and Σ exp(logit − it), over the entries behind the sinks.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads / GROUP]
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [heads, COLUMNS]
@group(0) @binding(2) var<storage, read_write> statistics: array<vec2f>; // [heads]

const LOWEST = -1e30; // below every logit, and far enough from the end of f32 that differences stay finite
const SUBGROUPS = WORKGROUP / SUBGROUP;
var<workgroup> partial: array<vec2f, SUBGROUPS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let n = lengths[head / GROUP];
  var own = LOWEST;
  for (var i = SINKS + local; i < n; i += WORKGROUP) { own = max(own, logits[head * COLUMNS + i]); }
  var most = subgroupMax(own);
  var sum = 0.0;
  for (var i = SINKS + local; i < n; i += WORKGROUP) { sum += exp(logits[head * COLUMNS + i] - most); }
  sum = subgroupAdd(sum);
  if (SUBGROUPS > 1u) {
    if (local % SUBGROUP == 0u) { partial[local / SUBGROUP] = vec2f(most, sum); }
    workgroupBarrier();
    most = LOWEST;
    for (var i = 0u; i < SUBGROUPS; i++) { most = max(most, partial[i].x); }
    sum = 0.0;
    for (var i = 0u; i < SUBGROUPS; i++) { sum += partial[i].y * exp(partial[i].x - most); }
  }
  if (local == 0u) { statistics[head] = vec2f(most, sum); }
}
