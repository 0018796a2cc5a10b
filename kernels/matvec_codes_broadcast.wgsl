// y = W x in whole numbers for one row of activations, for adapters on which a gather costs more than arithmetic
// (kernels/matvec_broadcast.wgsl for floats). Each lane owns four rows of W; the codes of x are loaded once, four to a lane, and broadcast.
// W: [N, K], x: [K], y: [N].
//
// Bytes are multiplied one by one and not by dot4I8Packed, which is the same sum: such adapters take it apart anyway, and here what is
// taken out of a byte of x serves eight lanes and four rows. It is a twentieth to a tenth faster.
//
// GATED: W stacks `gate` over `up` (N rows each). A lane then owns two rows of each and makes two outputs.
@group(0) @binding(0) var<storage, read> x: array<u32>; // [M, VERSIONS, K / 4]

const WHOLE = K % 32u == 0u && COLUMN1 % 32u == 0u;

// The lane's rows of W, one component each.
var<private> sum: vec4i;

fn byte0(w: u32) -> i32 { return (bitcast<i32>(w) << 24u) >> 24u; }
fn byte1(w: u32) -> i32 { return (bitcast<i32>(w) << 16u) >> 24u; }
fn byte2(w: u32) -> i32 { return (bitcast<i32>(w) << 8u) >> 24u; }
fn byte3(w: u32) -> i32 { return bitcast<i32>(w) >> 24u; }

fn dot_word(w: u32, a: vec4i) -> i32 { return byte0(w) * a.x + byte1(w) * a.y + byte2(w) * a.z + byte3(w) * a.w; }

fn add(w0: u32, w1: u32, w2: u32, w3: u32, a: vec4i) { sum += vec4i(dot_word(w0, a), dot_word(w1, a), dot_word(w2, a), dot_word(w3, a)); }

// Output of the lane's i-th row of W.
fn output_of(first: u32, lane: u32, i: u32) -> u32 { return first + select(i, i % 2u, GATED) * SUBGROUP + lane; }

// The lane's i-th row of W. Rows past the end repeat the last one and are not stored.
fn row_of(first: u32, lane: u32, i: u32) -> u32 { return min(output_of(first, lane, i), N - 1u) + select(0u, N, GATED && i >= 2u); }

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = group.x * select(4u, 2u, GATED) * SUBGROUP;
  let row0 = row_of(first, lane, 0u);
  let row1 = row_of(first, lane, 1u);
  let row2 = row_of(first, lane, 2u);
  let row3 = row_of(first, lane, 3u);
  let rows = vec4u(row0, row1, row2, row3);
  let source = source_of(0u, first);
  let open = open_bound(source);
  var value = vec4f();
  for (var section = 0u; section < SECTIONS + select(0u, open, SECTIONS > 1u); section++) {
    let end = section_end(section, open);
    sum = vec4i();
    for (var eight = section_begin(section); eight < end; eight += 4u) {
      let word = eight * 2u + lane % 8u;
      var raw = x[source * (K / 4u) + word];
      if (!WHOLE) { raw = select(0u, raw, word < end * 2u); }
      let a = unpack4xI8(raw);
      {
        let w0 = codes16(row0, eight);
        let w1 = codes16(row1, eight);
        let w2 = codes16(row2, eight);
        let w3 = codes16(row3, eight);
        add(w0.x, w1.x, w2.x, w3.x, subgroupBroadcast(a, 0u));
        add(w0.y, w1.y, w2.y, w3.y, subgroupBroadcast(a, 1u));
        add(w0.z, w1.z, w2.z, w3.z, subgroupBroadcast(a, 2u));
        add(w0.w, w1.w, w2.w, w3.w, subgroupBroadcast(a, 3u));
      }
      if (WHOLE || eight + 2u < end) {
        let w0 = codes16(row0, eight + 2u);
        let w1 = codes16(row1, eight + 2u);
        let w2 = codes16(row2, eight + 2u);
        let w3 = codes16(row3, eight + 2u);
        add(w0.x, w1.x, w2.x, w3.x, subgroupBroadcast(a, 4u));
        add(w0.y, w1.y, w2.y, w3.y, subgroupBroadcast(a, 5u));
        add(w0.z, w1.z, w2.z, w3.z, subgroupBroadcast(a, 6u));
        add(w0.w, w1.w, w2.w, w3.w, subgroupBroadcast(a, 7u));
      }
    }
    value += vec4f(sum) * (magnitude_of(source, section) * step4(rows, section));
  }
  value += outside4(source, rows);
  for (var i = 0u; i < select(4u, 2u, GATED) + open; i++) {
    let n = output_of(first, lane, i);
    if (n >= N) { return; }
    if (GATED) { store_gated(0u, n, value[i], value[i + 2u]); } else { store(0u, n, value[i], held(0u, n)); }
  }
}
