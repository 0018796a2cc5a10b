// Y = X Wᵀ in whole numbers for many rows through workgroup memory, for GPUs: a workgroup of 256 makes a tile of 64 × 64, each
// invocation 4 × 4 of it, sixteen apart. 32 columns of K at a time are staged for all, word by word, four codes to a word.
// X: [M, VERSIONS, K], W: [N, K], Y: [M, N].
//
// GATED: W stacks `gate` over `up` (N rows each). The tile's first 32 columns are outputs of `gate`, the others the same of `up`.
@group(0) @binding(0) var<storage, read> x: array<vec2u>; // [M, VERSIONS, K / 8]

const TILE = 64u;
const EIGHTS = 4u; // of columns of K per stage
const LINE = TILE + 1u; // words from one word of a row to its next; one of padding, or the stores would fall into few banks
var<workgroup> x_tile: array<u32, 2u * EIGHTS * LINE>;
var<workgroup> w_tile: array<u32, 2u * EIGHTS * LINE>;

// Output of column `c` of the tile, and the row of W behind it. Those past the end repeat the last one and are not stored.
fn output_of(tile: u32, c: u32) -> u32 { return select(tile * TILE + c, tile * (TILE / 2u) + c % (TILE / 2u), GATED); }
fn row_of(tile: u32, c: u32) -> u32 { return min(output_of(tile, c), N - 1u) + select(0u, N, GATED && c >= TILE / 2u); }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let tx = index % 16u;
  let ty = index / 16u;
  // What this invocation stages: eight columns of one row of X and of W.
  let own = index / EIGHTS;
  let part = index % EIGHTS;
  let split_at = output_of(group.x, 0u); // a tile's outputs are all on one side of SPLIT
  let x_at = source_of(min(group.y * TILE + own, M - 1u), split_at) * (K / 8u);
  let w_row = row_of(group.x, own);
  let at = 2u * part * LINE + own;
  let open = open_bound(source_of(group.y * TILE, split_at));
  var values = array<vec4f, 4>();
  for (var section = 0u; section < SECTIONS + open; section++) {
    let end = section_end(section, open);
    var sum = array<vec4i, 4>();
    for (var step = section_begin(section); step < end; step += EIGHTS) {
      let eight = step + part;
      var a = vec2u();
      var w = vec2u();
      if (eight < end) {
        a = x[x_at + eight];
        w = vec2u(word_of(w_row, eight * 8u), word_of(w_row, eight * 8u + 4u));
      }
      x_tile[at] = a.x;
      x_tile[at + LINE] = a.y;
      w_tile[at] = w.x;
      w_tile[at + LINE] = w.y;
      workgroupBarrier();
      for (var word = 0u; word < 2u * EIGHTS; word++) {
        let line = word * LINE;
        let w0 = w_tile[line + tx];
        let w1 = w_tile[line + tx + 16u];
        let w2 = w_tile[line + tx + 32u];
        let w3 = w_tile[line + tx + 48u];
        for (var i = 0u; i < 4u; i++) {
          let b = x_tile[line + ty + i * 16u];
          sum[i] += vec4i(dot4I8Packed(b, w0), dot4I8Packed(b, w1), dot4I8Packed(b, w2), dot4I8Packed(b, w3));
        }
      }
      workgroupBarrier();
    }
    for (var i = 0u; i < 4u + open; i++) {
      let source = source_of(min(group.y * TILE + ty + i * 16u, M - 1u), split_at);
      for (var j = 0u; j < 4u + open; j++) { values[i][j] += scaled(sum[i][j], source, row_of(group.x, tx + j * 16u), section); }
    }
  }
  for (var i = 0u; i < 4u + open; i++) {
    let m = group.y * TILE + ty + i * 16u;
    if (m >= M) { return; }
    let source = source_of(m, split_at);
    for (var j = 0u; j < select(4u, 2u, GATED) + open; j++) {
      let n = output_of(group.x, tx + j * 16u);
      if (n >= N) { continue; }
      let value = values[i][j] + outside(source, n);
      if (GATED) { store_gated(m, n, value, values[i][j + 2u] + outside(source, N + n)); } else { store(m, n, value, held(m, n)); }
    }
  }
}
