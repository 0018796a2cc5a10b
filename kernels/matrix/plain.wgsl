// The work of matrix units done by plain arithmetic, lane i of a subgroup making every SUBGROUP-th element from the i-th. It makes the
// kernel's staging, indexing and stores testable on every adapter; it is far too slow for anything else. The bound of the
// inner loop is left open to the compiler, which would unroll it too and take half a minute.
alias Left = u32;
alias Right = u32;
alias Result = array<f32, 256u / SUBGROUP>;

fn load_left(at: u32) -> Left { return at; }

fn load_right(at: u32) -> Right { return at; }

fn multiply_add(rows: Left, columns: Right, sum: Result, lane: u32) -> Result {
  var total = sum;
  let end = min(4u, arrayLength(&x));
  for (var i = 0u; i < 256u / SUBGROUP; i++) {
    let at = i * SUBGROUP + lane;
    let row = (rows + at / 16u * LINE * 4u) / 4u;
    let column = (columns + at % 16u * LINE * 4u) / 4u;
    for (var k = 0u; k < end; k++) { total[i] += dot(vec4f(x_tile[row + k]), vec4f(w_tile[column + k])); }
  }
  return total;
}

fn store_result(at: u32, sum: Result, lane: u32) {
  for (var i = 0u; i < 256u / SUBGROUP; i++) { results[at + i * SUBGROUP + lane] = sum[i]; }
}
