// Weights to codes of nf4 or fp4, as bitsandbytes makes them: per block of BLOCK values in row-major order the largest magnitude, and for
// each value · (1 / magnitude) the nearest of the sixteen numbers, by the BOUNDS between them; in a ragged last block for each value /
// magnitude. An invocation takes eight values at a time, which are one word of codes; the invocations of a block are neighbours in a
// subgroup. The values are a piece of the matrix, read through a float format's slot as rows of eight.
struct Piece {
  first: u32, // of the matrix's eights, where the piece begins (at a block)
  eights: u32, // that it has
  width: u32, // eights of a row of the matrix
  columns: u32, // eights of a row of the weight that the matrix is a part of
  first_row: u32, // where the matrix begins in the weight
  first_column: u32, // in eights
  blocks_first: u32, // of its blocks, in absmax
}
@group(0) @binding(0) var<storage, read> piece: Piece;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> absmax: array<f32>;
@group(0) @binding(4) var<storage, read_write> unusable: array<atomic<u32>>; // how many values were not finite

const ACROSS = min(SUBGROUP, BLOCK / 8u); // invocations of a block
const EACH = BLOCK / 8u / ACROSS; // eights of an invocation

fn largest(w: Weights8) -> f32 {
  let most = max(abs(w.lo), abs(w.hi));
  return max(max(most.x, most.y), max(most.z, most.w));
}

fn code_of(v: f32) -> u32 {
  var rank = 0u;
  for (var i = 0u; i < 15u; i++) { rank += select(0u, 1u, BOUNDS[i] < v); }
  return (select(ORDER_LOW, ORDER_HIGH, rank >= 8u) >> (rank % 8u * 4u)) & 15u;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let block = id.x / ACROSS;
  let start = block * (BLOCK / 8u) + id.x % ACROSS;
  var most = 0.0;
  var wrong = 0u;
  for (var i = 0u; i < EACH; i++) {
    let at = start + i * ACROSS;
    if (at < piece.eights) {
      let w = weight8(at, 0u);
      for (var j = 0u; j < 4u; j++) { wrong += select(1u, 0u, finite(w.lo[j])) + select(1u, 0u, finite(w.hi[j])); }
      most = max(most, largest(w));
    }
  }
  for (var d = 1u; d < ACROSS; d *= 2u) { most = max(most, subgroupShuffleXor(most, d)); }
  if (wrong > 0u) { atomicAdd(&unusable[0], wrong); }
  if (start >= piece.eights) { return; }
  let whole = (block + 1u) * (BLOCK / 8u) <= piece.eights;
  if (id.x % ACROSS == 0u) { absmax[piece.blocks_first + piece.first / (BLOCK / 8u) + block] = select(max(most, LEAST), most, whole); }
  let tiny = most < 1.1754944e-38;
  var scale = LEAST_RECIPROCAL;
  if (!tiny) { scale = quotient(1.0, most); }
  // Not unrolled, since it is long.
  for (var i = 0u; i < min(EACH, piece.eights); i++) {
    let at = start + i * ACROSS;
    if (at >= piece.eights) { return; }
    let w = weight8(at, 0u);
    var word = 0u;
    for (var j = 0u; j < min(8u, piece.eights * 8u); j++) {
      let v = select(w.lo[j % 4u], w.hi[j % 4u], j >= 4u);
      var scaled = v * scale;
      if (!whole && !tiny) { scaled = quotient(v, most); }
      word |= code_of(clamp(scaled, -1.0, 1.0)) << (j / 2u * 8u + select(4u, 0u, j % 2u == 1u));
    }
    let eight = piece.first + at;
    codes[(piece.first_row + eight / piece.width) * piece.columns + piece.first_column + eight % piece.width] = word;
  }
}
