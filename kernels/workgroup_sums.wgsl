// Sums of counts over a workgroup of WORKGROUP lanes in subgroups of SUBGROUP: of one subgroup without a barrier, else through workgroup
// memory. All lanes must call them together.
const SUBGROUPS = WORKGROUP / SUBGROUP;
var<workgroup> partial: array<vec4u, SUBGROUPS>;

fn exchange(own: vec4u, local: u32) {
  workgroupBarrier(); // the last use of `partial` is over
  if (local % SUBGROUP == 0u) { partial[local / SUBGROUP] = own; }
  workgroupBarrier();
}

fn total(value: vec4u, local: u32) -> vec4u {
  let own = subgroupAdd(value);
  if (SUBGROUPS == 1u) { return own; }
  exchange(own, local);
  var sum = vec4u();
  for (var i = local % SUBGROUP; i < SUBGROUPS; i += SUBGROUP) { sum += partial[i]; }
  return subgroupAdd(sum);
}

// x: the sum over all lanes before this one, y: over all lanes.
fn scan(value: u32, local: u32) -> vec2u {
  let before = subgroupExclusiveAdd(value);
  let own = subgroupAdd(value);
  if (SUBGROUPS == 1u) { return vec2u(before, own); }
  exchange(vec4u(own), local);
  var sums = vec2u();
  for (var i = local % SUBGROUP; i < SUBGROUPS; i += SUBGROUP) { sums += partial[i].x * vec2u(select(0u, 1u, i < local / SUBGROUP), 1u); }
  return vec2u(before, 0u) + subgroupAdd(sums);
}
