// Y = X Wᵀ in whole numbers for several rows, without workgroup memory (kernels/matmul_broadcast.wgsl for floats;
// matvec_codes_broadcast.wgsl says why not by dot4I8Packed). A workgroup is one subgroup and makes ROWS (4 or 8) rows × 4·SUBGROUP
// columns: each lane owns four columns and loads their codes, and those of one row of X, which are broadcast. X: [M, VERSIONS, K],
// W: [N, K], Y: [M, N]; X and Y have room for whole tiles.
//
// GATED: a lane's columns are two of `gate` and the same two of `up` (W stacks them, N rows each) and make two outputs.
@group(0) @binding(0) var<storage, read> x: array<u32>; // [M, VERSIONS, K / 4]

const WHOLE = K % 16u == 0u && COLUMN1 % 16u == 0u;

// The lane's columns 0–3 of rows 0–3, and of rows 4–7.
var<private> sum0: vec4i;
var<private> sum1: vec4i;
var<private> sum2: vec4i;
var<private> sum3: vec4i;
var<private> more0: vec4i;
var<private> more1: vec4i;
var<private> more2: vec4i;
var<private> more3: vec4i;

// One k of all rows, of which lane r % 8 has row r, times the same k of the lane's columns.
fn add(a: i32, w: vec4i) {
  let rows = vec4i(subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u), subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u));
  sum0 += rows * w.x;
  sum1 += rows * w.y;
  sum2 += rows * w.z;
  sum3 += rows * w.w;
  if (ROWS > 4u) {
    let others = vec4i(subgroupBroadcast(a, 4u), subgroupBroadcast(a, 5u), subgroupBroadcast(a, 6u), subgroupBroadcast(a, 7u));
    more0 += others * w.x;
    more1 += others * w.y;
    more2 += others * w.z;
    more3 += others * w.w;
  }
}

// Output of the lane's i-th column.
fn output_of(first: u32, lane: u32, i: u32) -> u32 { return first + select(i, i % 2u, GATED) * SUBGROUP + lane; }

// The row of W behind the lane's i-th column. Columns past the end repeat the last one and are not stored.
fn row_of(first: u32, lane: u32, i: u32) -> u32 { return min(output_of(first, lane, i), N - 1u) + select(0u, N, GATED && i >= 2u); }

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let m = group.y * ROWS;
  let first = group.x * select(4u, 2u, GATED) * SUBGROUP;
  let row0 = row_of(first, lane, 0u);
  let row1 = row_of(first, lane, 1u);
  let row2 = row_of(first, lane, 2u);
  let row3 = row_of(first, lane, 3u);
  let x_at = source_of(m + lane % ROWS, first) * (K / 4u);
  let open = open_bound(source_of(m, first));
  let rows = ROWS + open;
  var values = array<vec4f, 8>();
  for (var section = 0u; section < SECTIONS + open; section++) {
    let end = section_end(section, open);
    sum0 = vec4i();
    sum1 = vec4i();
    sum2 = vec4i();
    sum3 = vec4i();
    more0 = vec4i();
    more1 = vec4i();
    more2 = vec4i();
    more3 = vec4i();
    for (var eight = section_begin(section); eight < end; eight += 2u) {
      let codes0 = codes16(row0, eight);
      let codes1 = codes16(row1, eight);
      let codes2 = codes16(row2, eight);
      let codes3 = codes16(row3, eight);
      for (var i = 0u; i < 4u; i++) {
        let word = eight * 2u + i;
        let a = unpack4xI8(select(0u, x[x_at + word], WHOLE || word < end * 2u));
        let w0 = unpack4xI8(codes0[i]);
        let w1 = unpack4xI8(codes1[i]);
        let w2 = unpack4xI8(codes2[i]);
        let w3 = unpack4xI8(codes3[i]);
        add(a.x, vec4i(w0.x, w1.x, w2.x, w3.x));
        add(a.y, vec4i(w0.y, w1.y, w2.y, w3.y));
        add(a.z, vec4i(w0.z, w1.z, w2.z, w3.z));
        add(a.w, vec4i(w0.w, w1.w, w2.w, w3.w));
      }
    }
    var sums = array<vec4i, 8>(sum0, sum1, sum2, sum3, more0, more1, more2, more3);
    for (var r = 0u; r < rows; r += 4u) {
      let source = vec4u(source_of(m + r, first), source_of(m + r + 1u, first), source_of(m + r + 2u, first), source_of(m + r + 3u, first));
      let magnitude = vec4f(
        magnitude_of(source.x, section), magnitude_of(source.y, section), magnitude_of(source.z, section), magnitude_of(source.w, section),
      );
      for (var c = 0u; c < 4u + open; c++) { values[r + c] += vec4f(sums[r + c]) * (magnitude * step_of(row_of(first, lane, c), section)); }
    }
  }
  for (var c = 0u; c < select(4u, 2u, GATED) + open; c++) {
    let n = output_of(first, lane, c);
    if (n >= N) { continue; }
    for (var r = 0u; r < rows; r++) {
      let source = source_of(m + r, first);
      let at = r / 4u * 4u + c;
      let value = values[at][r % 4u] + outside(source, n);
      if (GATED) {
        store_gated(m + r, n, value, values[at + 2u][r % 4u] + outside(source, N + n));
      } else {
        store(m + r, n, value, held(m + r, n));
      }
    }
  }
}
