// Slot `compare` of nll.wgsl: another model's logits b of the same samples, p = softmax(b) and q = softmax(l). With d = b − l, m = Σ p d
// and u = m − d the divergence is KL(p‖q) = Σ p d + log Σ p exp(−d) = log(1 + Σ p (exp(u) − 1 − u)), since Σ p u = 0. No term is below
// 0 and nothing cancels, so a divergence of 1e-9 keeps its digits in f32 and equal logits give exactly 0. A large one, where nothing is lost
// and exp(u) might overflow, is taken from the definition instead: m − log Σ exp(b) + log Σ exp(l).
@group(0) @binding(3) var<storage, read> base: array<f32>; // [samples, VOCAB]

// exp(b) (exp(u) − 1 − u). Where u is large exp(b) is so small that it may be 0 as a number, but the two exponents together are not.
fn excess(b: f32, u: f32) -> f32 {
  let likely = exp(b);
  if (u > 0.5) { return exp(min(b + u, 87.0)) - likely * (1.0 + u); }
  if (u < -0.5) { return likely * (exp(u) - 1.0 - u); }
  return likely * u * u * (0.5 + u * (1.0 / 6.0 + u * (1.0 / 24.0 + u * (1.0 / 120.0 + u * (1.0 / 720.0 + u * (1.0 / 5040.0))))));
}

fn compare(row: Row, first: u32, wanted: u32, at: u32, local: u32) {
  var own = Best(LOWEST, NO_TOKEN);
  var broken = 0.0;
  for (var t = local; t < VOCAB; t += WORKGROUP) {
    let value = base[first + t];
    if (!is_finite(value)) { broken += 1.0; }
    if (value > own.value) { own = Best(value, t); }
  }
  let best = best_of_all(own, local);
  let finite = total(broken, local) == 0.0 && best.index != NO_TOKEN;
  var sum = 0.0;
  var apart = 0.0;
  for (var start = local; start < VOCAB; start += RUN * WORKGROUP) {
    var run = 0.0;
    var run_apart = 0.0;
    for (var t = start; t < min(start + RUN * WORKGROUP, VOCAB); t += WORKGROUP) {
      let likely = exp(base[first + t] - best.value);
      run += likely;
      run_apart += likely * (base[first + t] - logits[first + t]);
    }
    sum += run;
    apart += run_apart;
  }
  let mass = total(sum, local);
  let mean = total(apart, local) / mass;
  var curved = 0.0;
  for (var start = local; start < VOCAB; start += RUN * WORKGROUP) {
    var run = 0.0;
    for (var t = start; t < min(start + RUN * WORKGROUP, VOCAB); t += WORKGROUP) {
      run += excess(base[first + t] - best.value, mean - (base[first + t] - logits[first + t]));
    }
    curved += run;
  }
  let x = total(curved, local) / mass;
  if (local != 0u) { return; }
  var divergence = select(log(1.0 + x), x * (1.0 - x * (0.5 - x * (1.0 / 3.0 - x * 0.25))), x < 0.01);
  if (x > 1.0) { divergence = mean - (best.value - row.best.value) + (log(row.sum) - log(mass)); }
  out[at + 2u] = bitcast<u32>(divergence);
  out[at + 3u] = bitcast<u32>(log(mass) + (best.value - base[first + wanted]));
  let agree = select(0u, SAME_TOP, best.index == row.best.index) | select(0u, BASE_HIT, best.index == wanted);
  out[at + 1u] |= agree | select(BASE_BROKEN, 0u, finite);
}
