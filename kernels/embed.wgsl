// x[row] = embedding[token of row]. One workgroup per row. A table too large for one binding comes in parts, each run over all rows:
// this part holds the tokens FIRST … FIRST + N − 1 and leaves the other rows alone.
@group(0) @binding(1) var<storage, read_write> x: array<vec4f>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let token = row_token(row);
  if (token < FIRST || token >= FIRST + N) { return; }
  weights_begin(lane);
  for (var k = lane; k < K / 8u; k += SUBGROUP) { // of a float format, which lanes read each by itself
    let w = weight8(token - FIRST, k);
    x[row * (K / 4u) + k * 2u] = w.lo;
    x[row * (K / 4u) + k * 2u + 1u] = w.hi;
  }
}
