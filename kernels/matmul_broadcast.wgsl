// Y = X Wᵀ for several rows, without workgroup memory: the product for adapters on which a gather costs more than arithmetic.
// A workgroup is one subgroup and makes ROWS (4 or 8) rows × 4·SUBGROUP columns. Each lane owns four columns and loads their weights;
// the activations are loaded once and broadcast. X: [M, K], W: [N, K], Y: [M, N]. X and Y have room for whole tiles. With NORM each
// row of X is normalised on the way (kernels/input/norm.wgsl): two lanes together see a whole row.
//
// GATED: a lane's columns are two of `gate` and the same two of `up` (W stacks them, N rows each) and make two outputs.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;

// The lane's columns 0–3 of rows 0–3, and of rows 4–7.
var<private> sum0: vec4f;
var<private> sum1: vec4f;
var<private> sum2: vec4f;
var<private> sum3: vec4f;
var<private> more0: vec4f;
var<private> more1: vec4f;
var<private> more2: vec4f;
var<private> more3: vec4f;

// One k of four rows out of the eight lanes that hold eight k of them: lane 2·row has the first four, lane 2·row + 1 the others.
fn rows_at(values: f32, half: u32) -> vec4f {
  if (half == 0u) {
    return vec4f(subgroupBroadcast(values, 0u), subgroupBroadcast(values, 2u), subgroupBroadcast(values, 4u), subgroupBroadcast(values, 6u));
  }
  return vec4f(subgroupBroadcast(values, 1u), subgroupBroadcast(values, 3u), subgroupBroadcast(values, 5u), subgroupBroadcast(values, 7u));
}

fn add(a: f32, b: f32, half: u32, w: vec4f) {
  let rows = rows_at(a, half);
  sum0 = fma(rows, vec4f(w.x), sum0);
  sum1 = fma(rows, vec4f(w.y), sum1);
  sum2 = fma(rows, vec4f(w.z), sum2);
  sum3 = fma(rows, vec4f(w.w), sum3);
  if (ROWS > 4u) {
    let others = rows_at(b, half);
    more0 = fma(others, vec4f(w.x), more0);
    more1 = fma(others, vec4f(w.y), more1);
    more2 = fma(others, vec4f(w.z), more2);
    more3 = fma(others, vec4f(w.w), more3);
  }
}

// A unit of eight weights is loaded where it is used: kept until then, four of them leave too few registers.
fn loaded(raw: RawWeights, row: u32, unit: u32) -> RawWeights {
  if (UNIT8 > 1u) { return raw; }
  return raw_weights(row, unit);
}

fn scaled(w: Weights8, scale: f32) -> Weights8 {
  if (!SCALED) { return w; }
  return Weights8(w.lo * scale, w.hi * scale);
}

// What two lanes have seen of each of four rows.
fn of_rows(seen: f32) -> vec4f { return rows_at(seen, 0u) + rows_at(seen, 1u); }

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
  let half = lane % 2u;
  let x_at = ((m + lane % 8u / 2u) * X_STRIDE + X_FIRST) / 4u + half;
  let gain_at = gain_start(first) * 4u + lane % 8u;
  // Σ x and Σ x² of this lane's share of its row, of the first four rows and of the others.
  var total = vec2f();
  var squares = vec2f();
  weights_begin(lane);
  for (var unit = 0u; unit < K / 8u / UNIT8; unit++) {
    var raw0 = RawWeights();
    var raw1 = RawWeights();
    var raw2 = RawWeights();
    var raw3 = RawWeights();
    if (UNIT8 > 1u) {
      raw0 = raw_weights(row0, unit);
      raw1 = raw_weights(row1, unit);
      raw2 = raw_weights(row2, unit);
      raw3 = raw_weights(row3, unit);
    }
    var scale = vec4f(1.0);
    if (SCALED) { scale = vec4f(unit_scale(row0, unit), unit_scale(row1, unit), unit_scale(row2, unit), unit_scale(row3, unit)); }
    for (var i = 0u; i < UNIT8; i++) {
      let k = unit * UNIT8 + i;
      var a = x[x_at + k * 2u];
      var b = vec4f();
      if (ROWS > 4u) { b = x[x_at + X_STRIDE + k * 2u]; }
      if (NORM != 0u) {
        total += vec2f(dot(a, vec4f(1.0)), dot(b, vec4f(1.0)));
        squares += vec2f(dot(a, a), dot(b, b));
        let g = gain1(gain_at + k * 8u);
        let lo = vec4f(subgroupBroadcast(g, 0u), subgroupBroadcast(g, 1u), subgroupBroadcast(g, 2u), subgroupBroadcast(g, 3u));
        let hi = vec4f(subgroupBroadcast(g, 4u), subgroupBroadcast(g, 5u), subgroupBroadcast(g, 6u), subgroupBroadcast(g, 7u));
        let gains = select(lo, hi, half == 1u);
        a *= gains;
        b *= gains;
      }
      // Scaled here, once for eight rows or four: a sum of its own for each unit would take as much again as the sums.
      let w0 = scaled(weights8(loaded(raw0, row0, unit), i), scale.x);
      let w1 = scaled(weights8(loaded(raw1, row1, unit), i), scale.y);
      let w2 = scaled(weights8(loaded(raw2, row2, unit), i), scale.z);
      let w3 = scaled(weights8(loaded(raw3, row3, unit), i), scale.w);
      add(a.x, b.x, 0u, vec4f(w0.lo.x, w1.lo.x, w2.lo.x, w3.lo.x));
      add(a.y, b.y, 0u, vec4f(w0.lo.y, w1.lo.y, w2.lo.y, w3.lo.y));
      add(a.z, b.z, 0u, vec4f(w0.lo.z, w1.lo.z, w2.lo.z, w3.lo.z));
      add(a.w, b.w, 0u, vec4f(w0.lo.w, w1.lo.w, w2.lo.w, w3.lo.w));
      add(a.x, b.x, 1u, vec4f(w0.hi.x, w1.hi.x, w2.hi.x, w3.hi.x));
      add(a.y, b.y, 1u, vec4f(w0.hi.y, w1.hi.y, w2.hi.y, w3.hi.y));
      add(a.z, b.z, 1u, vec4f(w0.hi.z, w1.hi.z, w2.hi.z, w3.hi.z));
      add(a.w, b.w, 1u, vec4f(w0.hi.w, w1.hi.w, w2.hi.w, w3.hi.w));
    }
  }
  if (ROW_SCALED) {
    let scale = vec4f(row_scale(row0), row_scale(row1), row_scale(row2), row_scale(row3));
    sum0 *= scale.x;
    sum1 *= scale.y;
    sum2 *= scale.z;
    sum3 *= scale.w;
    more0 *= scale.x;
    more1 *= scale.y;
    more2 *= scale.z;
    more3 *= scale.w;
  }
  var values = array<vec4f, 8>(sum0, sum1, sum2, sum3, more0, more1, more2, more3);
  var totals = array<vec4f, 2>(of_rows(total.x), of_rows(total.y));
  var squared = array<vec4f, 2>(of_rows(squares.x), of_rows(squares.y));
  // Bounds that look as if they depended on the workgroup: unrolled, the stores would be most of the kernel's text, and take a software
  // adapter as long to compile as all the rest.
  let columns = min(select(4u, 2u, GATED), group.y + 2u * select(2u, 1u, GATED));
  let rows = min(ROWS, group.y + ROWS);
  for (var c = 0u; c < columns; c++) {
    let n = output_of(first, lane, c);
    if (n >= N) { continue; }
    for (var r = 0u; r < rows; r++) {
      let h = r / 4u;
      let statistics = statistics_of(vec2f(totals[h][r % 4u], squared[h][r % 4u]));
      let value = normalised(values[h * 4u + c][r % 4u], n, statistics);
      if (GATED) {
        store_gated(m + r, n, value, normalised(values[h * 4u + c + 2u][r % 4u], n, statistics));
      } else {
        store(m + r, n, value, held(m + r, n));
      }
    }
  }
}
