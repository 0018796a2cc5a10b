// Weights to codes of int8, as bitsandbytes makes them: each value rounded to f16 first, then per row round(value · (127 · (1 / largest
// magnitude))), ties to even. A subgroup takes a row. `values` is a piece of whole rows, read through a float format's slot as rows of eight.
struct Piece {
  first: u32, // of the matrix's eights, where the piece begins (at a row)
  eights: u32, // that it has
  width: u32, // eights of a row of the matrix
  columns: u32, // eights of a row of the weight that the matrix is a part of
  first_row: u32, // where the matrix begins in the weight
  first_column: u32, // in eights
  section: u32, // of SECTIONS with scales of their own
}
@group(0) @binding(0) var<storage, read> piece: Piece;
@group(0) @binding(1) var<storage, read_write> codes: array<vec2u>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [rows, SECTIONS]
@group(0) @binding(4) var<storage, read_write> unusable: array<atomic<u32>>; // how many values were not finite, as f16

fn as_f16(row: u32, k: u32) -> Weights8 {
  let w = weight8(row * piece.width + k, 0u);
  return Weights8(
    vec4f(nearest_f16(w.lo.x), nearest_f16(w.lo.y), nearest_f16(w.lo.z), nearest_f16(w.lo.w)),
    vec4f(nearest_f16(w.hi.x), nearest_f16(w.hi.y), nearest_f16(w.hi.z), nearest_f16(w.hi.w)),
  );
}

fn packed(v: vec4f, scale: f32) -> u32 { return pack4xI8(vec4i(round(v * scale))); }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x / SUBGROUP;
  let lane = id.x % SUBGROUP;
  let rows = piece.eights / piece.width;
  if (row >= rows) { return; }
  var most = 0.0;
  var wrong = 0u;
  for (var k = lane; k < piece.width; k += SUBGROUP) {
    let w = as_f16(row, k);
    for (var j = 0u; j < 4u; j++) { wrong += select(1u, 0u, finite(w.lo[j])) + select(1u, 0u, finite(w.hi[j])); }
    let m = max(abs(w.lo), abs(w.hi));
    most = max(most, max(max(m.x, m.y), max(m.z, m.w)));
  }
  for (var d = 1u; d < SUBGROUP; d *= 2u) { most = max(most, subgroupShuffleXor(most, d)); }
  if (wrong > 0u) { atomicAdd(&unusable[0], wrong); }
  var scale = 0.0;
  if (most > 0.0 && finite(most)) { scale = 127.0 * quotient(1.0, most); }
  let at = piece.first_row + piece.first / piece.width + row;
  for (var k = lane; k < piece.width; k += SUBGROUP) {
    let w = as_f16(row, k);
    codes[at * piece.columns + piece.first_column + k] = vec2u(packed(w.lo, scale), packed(w.hi, scale));
  }
  if (lane == 0u) { scales[at * SECTIONS + piece.section] = most; }
}
