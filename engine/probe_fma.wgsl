// Multiply-adds in registers: eight independent chains per invocation, ROUNDS × 16 steps each. A chain a ← a · x + y with x = y = 1/2
// goes to 1 (its fixed point y / (1 − x)), so the sum of the eight is 8, and the host sees that the work was done.
@group(0) @binding(0) var<storage, read> factor: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let x = vec4f(factor[0]);
  let y = vec4f(factor[1]);
  var a = vec4f(f32(local), 0.0, 0.25, 0.75);
  var b = vec4f(2.0, 3.0, 4.0, 5.0);
  for (var round = 0u; round < ROUNDS; round++) {
    a = fma(a, x, y); b = fma(b, x, y); a = fma(a, x, y); b = fma(b, x, y);
    a = fma(a, x, y); b = fma(b, x, y); a = fma(a, x, y); b = fma(b, x, y);
    a = fma(a, x, y); b = fma(b, x, y); a = fma(a, x, y); b = fma(b, x, y);
    a = fma(a, x, y); b = fma(b, x, y); a = fma(a, x, y); b = fma(b, x, y);
    a = fma(a, x, y); b = fma(b, x, y); a = fma(a, x, y); b = fma(b, x, y);
    a = fma(a, x, y); b = fma(b, x, y); a = fma(a, x, y); b = fma(b, x, y);
    a = fma(a, x, y); b = fma(b, x, y); a = fma(a, x, y); b = fma(b, x, y);
    a = fma(a, x, y); b = fma(b, x, y); a = fma(a, x, y); b = fma(b, x, y);
  }
  let sum = a + b;
  sums[group.x * WORKGROUP + local] = (sum.x + sum.y) + (sum.z + sum.w);
}
