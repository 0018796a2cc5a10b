// Attention over the cache for adapters on which a gather costs more than arithmetic and a barrier more than both:
// out = softmax(q kᵀ · SCALE) v per query head, causal. A workgroup is one subgroup; it takes one KV head and one tile of up to TILE_ROWS
// rows of a sequence with all GROUP query heads of that KV head: QUERIES = TILE_ROWS · GROUP queries that read each key and value once.
// Keys come TURN at a time: a lane scores LANE_KEYS of them for every query, whose dimensions the lanes hold among them and broadcast; then
// all lanes add up the values, their dimensions split among them. Softmax runs online in f32 (Milakov and Gimelshein 2018), in powers
// of two: SCALE has a factor log2 e. Slots are those of attention.wgsl, but for a row's own key and value (own_attend.wgsl).
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>; // rows of OUT vec4 that begin with [HEADS, QUADS]

const QUADS = HEAD_DIM / 4u; // vec4 per head
const OWN = (QUADS + SUBGROUP - 1u) / SUBGROUP; // quads of a lane: lane, lane + SUBGROUP, …
const QUERIES = TILE_ROWS * GROUP;
const LANE_KEYS = TURN / SUBGROUP; // each broadcast dimension of a query serves as many keys
const TOGETHER = 2u; // values added to a sum before it is put back
const LOWEST = -3.0e38;

// Row of query `i` of the tile; its head is the i % GROUP-th of the group. Rows past the tile repeat its first.
fn query_row(first: u32, rows: u32, i: u32) -> u32 { return first + select(0u, i / GROUP, i / GROUP < rows); }

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.x / SPLITS;
  let split = group.x % SPLITS;
  let first = tile_first(group.y);
  let rows = tile_rows(group.y);
  let table = table_of(row_sequence(first), head);
  let before = lengths[table] + row_offset(first); // entries before the tile's first row
  let keys = before + rows; // entries its last row sees

  if (split >= splits_of(keys)) { return; }
  let begin = split * keys_per_split(keys);
  var end = min(begin + keys_per_split(keys), keys);

  var query: array<array<vec4f, OWN>, QUERIES>;
  var sum: array<array<vec4f, OWN>, QUERIES>;
  var top: array<f32, QUERIES>;
  var mass: array<f32, QUERIES>; // of this lane's keys
  for (var i = 0u; i < QUERIES; i++) {
    let row = query_row(first, rows, i);
    let query_head = head * GROUP + i % GROUP;
    let scale = query_scale(row, query_head, lane);
    for (var j = 0u; j < OWN; j++) {
      query[i][j] = query4(row, query_head, min(lane + j * SUBGROUP, QUADS - 1u), scale) * SCALE;
    }
    top[i] = LOWEST;
  }

  if (ATTENDS_OWN && begin < keys && end == keys) {
    end -= 1u;
    var own = array<vec4f, OWN>();
    var value = array<vec4f, OWN>();
    attend_own(first, head, table, end, lane, &own, &value);
    for (var j = 0u; j < OWN; j++) {
      own[j] = select(vec4f(), own[j], lane + j * SUBGROUP < QUADS);
      for (var i = 0u; i < QUERIES; i++) { sum[i][j] = value[j]; }
    }
    for (var i = 0u; i < QUERIES; i++) {
      var score = 0.0;
      for (var j = 0u; j < OWN; j++) { score += dot(query[i][j], own[j]); }
      top[i] = subgroupAdd(score);
      mass[i] = select(0.0, 1.0, lane == 0u);
    }
  }

  // For few queries, gathers that stand in the code many times take seconds to compile and run slower than a loop: so the compiler does
  // not see how often these loops turn.
  let hidden = select(0u, keys >> 31u, QUERIES <= 4u);
  for (var base = begin; base < end; base += TURN) {
    // Written out: Dawn zeroes a variable declared without a value once, not on every turn of the loop.
    var entry = array<u32, LANE_KEYS>();
    var score = array<array<f32, LANE_KEYS>, QUERIES>();
    var place = array<u32, LANE_KEYS>();
    for (var t = 0u; t < LANE_KEYS; t++) {
      entry[t] = kv_entry_of_lane(table, base + t * SUBGROUP, lane, end - 1u);
      place[t] = key_place(entry[t], min(base + t * SUBGROUP + lane, end - 1u), before, table, head, first);
    }
    var scale = array<u32, LANE_KEYS>(); // what a format keeps from one four of dimensions to the next
    for (var j = 0u; j < OWN; j++) {
      for (var u = 0u; u < min(SUBGROUP, QUADS - j * SUBGROUP) + hidden; u++) {
        var key = array<vec4f, LANE_KEYS>();
        for (var t = 0u; t < LANE_KEYS; t++) { key[t] = k_next4(place[t], j * SUBGROUP + u, &scale[t]); }
        for (var i = 0u; i < QUERIES; i++) {
          let q = subgroupShuffle(query[i][j], u);
          for (var t = 0u; t < LANE_KEYS; t++) {
            score[i][t] = fma(q.x, key[t].x, fma(q.y, key[t].y, fma(q.z, key[t].z, fma(q.w, key[t].w, score[i][t]))));
          }
        }
      }
    }
    for (var i = 0u; i < QUERIES; i++) {
      let seen = min(before + i / GROUP + 1u, end); // row r of the tile sees one entry more than row r − 1
      var best = LOWEST;
      for (var t = 0u; t < LANE_KEYS; t++) {
        score[i][t] = select(LOWEST, score[i][t], base + t * SUBGROUP + lane < seen);
        best = max(best, score[i][t]);
      }
      // Three exchanges cost less than a subgroupMax, which goes through the lanes one by one here.
      for (var d = 1u; d < SUBGROUP; d *= 2u) { best = max(best, subgroupShuffleXor(best, d)); }
      best = max(best, top[i]);
      let keep = exp2(top[i] - best);
      top[i] = best;
      mass[i] *= keep;
      for (var t = 0u; t < LANE_KEYS; t++) {
        score[i][t] = select(0.0, exp2(score[i][t] - best), base + t * SUBGROUP + lane < seen);
        mass[i] += score[i][t];
      }
      for (var j = 0u; j < OWN; j++) { sum[i][j] *= keep; }
    }
    for (var t = 0u; t < LANE_KEYS; t++) {
      if (base + t * SUBGROUP >= end) { break; }
      let scales = v_scales(entry[t]);
      for (var n = 0u; n < SUBGROUP + hidden; n += TOGETHER) {
        for (var j = 0u; j < OWN; j++) {
          var value = array<vec4f, TOGETHER>();
          for (var m = 0u; m < TOGETHER; m++) {
            value[m] = v_shared4(subgroupShuffle(entry[t], n + m), min(lane + j * SUBGROUP, QUADS - 1u), scales, n + m);
          }
          for (var i = 0u; i < QUERIES; i++) {
            var total = sum[i][j];
            for (var m = 0u; m < TOGETHER; m++) { total = fma(vec4f(subgroupShuffle(score[i][t], n + m)), value[m], total); }
            sum[i][j] = total;
          }
        }
      }
    }
  }

  let whole = splits_of(keys) == 1u;
  for (var i = 0u; i < QUERIES; i++) {
    let row = query_row(first, rows, i);
    let query_head = head * GROUP + i % GROUP;
    let total = subgroupAdd(mass[i]);
    if (i / GROUP >= rows) { continue; }
    for (var j = 0u; j < OWN; j++) {
      let quad = lane + j * SUBGROUP;
      if (quad >= QUADS) { break; }
      if (whole) {
        out[row * OUT + query_head * QUADS + quad] = sum[i][j] / total;
      } else {
        put_partial(row, query_head, split, quad, sum[i][j]);
      }
    }
    if (!whole && lane == 0u) { put_partial(row, query_head, split, QUADS, vec4f(top[i], total, 0.0, 0.0)); }
  }
}
