// Reductions over a workgroup of WORKGROUP lanes in subgroups of SUBGROUP: of one subgroup without a barrier, else through workgroup
// memory. Every lane gets the result. All lanes must call them together.
const NO_TOKEN = 0xffffffffu;
const LOWEST = -3.4028234663852886e38; // below every value that can be chosen
const SUBGROUPS = WORKGROUP / SUBGROUP;
var<workgroup> shared_value: array<f32, SUBGROUPS>;
var<workgroup> shared_index: array<u32, SUBGROUPS>;

struct Best { value: f32, index: u32 }

// Greatest value of the workgroup, ties to the lowest index.
fn best_of_all(own: Best, local: u32) -> Best {
  var best = Best(subgroupMax(own.value), 0u);
  best.index = subgroupMin(select(NO_TOKEN, own.index, own.value == best.value));
  if (SUBGROUPS == 1u) { return best; }
  workgroupBarrier();
  if (local % SUBGROUP == 0u) {
    shared_value[local / SUBGROUP] = best.value;
    shared_index[local / SUBGROUP] = best.index;
  }
  workgroupBarrier();
  for (var i = 0u; i < SUBGROUPS; i++) {
    let value = shared_value[i];
    if (value > best.value || (value == best.value && shared_index[i] < best.index)) { best = Best(value, shared_index[i]); }
  }
  return best;
}

// Sum over the workgroup in a fixed order.
fn total(value: f32, local: u32) -> f32 {
  let own = subgroupAdd(value);
  if (SUBGROUPS == 1u) { return own; }
  workgroupBarrier();
  if (local % SUBGROUP == 0u) { shared_value[local / SUBGROUP] = own; }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < SUBGROUPS; i++) { sum += shared_value[i]; }
  return sum;
}
