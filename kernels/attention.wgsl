// Attention over the cache, for GPUs: out = softmax(q kᵀ · SCALE) v per query head, causal. A workgroup takes one KV head and one tile of
// up to TILE_ROWS rows of a sequence with all GROUP query heads of that KV head: QUERIES = TILE_ROWS · GROUP queries that read each key and
// value once. Each of its subgroups takes every n-th SUBGROUP keys: a lane scores one key for every query (queries lie in workgroup
// memory, where reading the same word in all lanes costs one access); then lanes add up the values, WIDTH lanes a whole value of eight
// dimensions each and SUBGROUP / WIDTH values side by side. Partial results are merged once, in the order of lanes and subgroups.
// Softmax runs online in f32 (Milakov and Gimelshein 2018), in powers of two: SCALE has a factor log2 e.
// Slots say where queries come from (query_read.wgsl, query_rotate.wgsl), whether the workgroup also has its row's own key and value to
// append (own_append.wgsl), and whether the keys of a long row are shared among SPLITS workgroups (splits.wgsl).
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>; // rows of OUT vec4 that begin with [HEADS, QUADS]

const QUADS = HEAD_DIM / 4u; // vec4 per head
const UNITS = HEAD_DIM / 8u; // pieces of eight dimensions of an entry
const SUBGROUPS = WORKGROUP / SUBGROUP;
const QUERIES = TILE_ROWS * GROUP;
const WIDTH = min(SUBGROUP, 1u << (32u - countLeadingZeros(UNITS - 1u))); // lanes side by side on one value
const OWN = (UNITS + WIDTH - 1u) / WIDTH; // units of a lane: lane % WIDTH, + WIDTH, …
const BESIDE = SUBGROUP / WIDTH;
const LOWEST = -3.0e38;

var<workgroup> queries: array<vec4f, QUERIES * QUADS>;
var<workgroup> merge_max: array<f32, SUBGROUPS>;
var<workgroup> merge_sum: array<f32, SUBGROUPS>;
var<workgroup> merge_out: array<vec4f, SUBGROUPS * QUADS>;

// Row of query `i` of the tile; its head is the i % GROUP-th of the group. Rows past the tile repeat its first.
fn query_row(first: u32, rows: u32, i: u32) -> u32 { return first + select(0u, i / GROUP, i / GROUP < rows); }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = local % SUBGROUP;
  let subgroup = local / SUBGROUP;
  let head = group.x / SPLITS;
  let split = group.x % SPLITS;
  let first = tile_first(group.y);
  let rows = tile_rows(group.y);
  let table = table_of(row_sequence(first), head);
  let before = lengths[table] + row_offset(first); // entries before the tile's first row
  let keys = before + rows; // entries its last row sees

  if (split >= splits_of(keys)) { return; }
  let begin = split * keys_per_split(keys);
  let end = min(begin + keys_per_split(keys), keys);
  if (begin < keys && end == keys) { append_own(first, head, table, before, local); }

  for (var i = subgroup; i < QUERIES; i += SUBGROUPS) {
    let row = query_row(first, rows, i);
    let query_head = head * GROUP + i % GROUP;
    let scale = query_scale(row, query_head, lane);
    for (var quad = lane; quad < QUADS; quad += SUBGROUP) { queries[i * QUADS + quad] = query4(row, query_head, quad, scale) * SCALE; }
  }
  storageBarrier(); // the whole workgroup reads what its first subgroup has appended
  workgroupBarrier();

  let beside = lane / WIDTH;
  var sum: array<array<Dims8, OWN>, QUERIES>; // of every BESIDE-th key
  var top: array<f32, QUERIES>;
  var mass: array<f32, QUERIES>; // of this lane's keys
  for (var i = 0u; i < QUERIES; i++) { top[i] = LOWEST; }

  for (var base = begin + subgroup * SUBGROUP; base < end; base += TURN) {
    let entry = kv_entry_of_lane(table, base, lane, end - 1u);
    let place = key_place(entry, min(base + lane, end - 1u), before, table, head, first);
    // Written out: Dawn zeroes a variable declared without a value once, not on every turn of the loop.
    var score = array<f32, QUERIES>();
    for (var u = 0u; u < UNITS; u++) {
      let key = k_read8(place, u);
      for (var i = 0u; i < QUERIES; i++) {
        let at = i * QUADS + u * 2u;
        score[i] += dot(queries[at], key.lo) + dot(queries[at + 1u], key.hi);
      }
    }
    for (var i = 0u; i < QUERIES; i++) {
      // Row r of the tile sees one entry more than row r − 1.
      let visible = base + lane < min(before + i / GROUP + 1u, end);
      let s = select(LOWEST, score[i], visible);
      let best = max(top[i], subgroupMax(s));
      let keep = exp2(top[i] - best);
      let p = select(0.0, exp2(s - best), visible);
      top[i] = best;
      mass[i] = mass[i] * keep + p;
      score[i] = p;
      for (var j = 0u; j < OWN; j++) { sum[i][j] = Dims8(sum[i][j].lo * keep, sum[i][j].hi * keep); }
    }
    for (var n = 0u; n < min(SUBGROUP, end - base); n += BESIDE) {
      let value_entry = subgroupShuffle(entry, n + beside);
      for (var j = 0u; j < OWN; j++) {
        let value = v_read8(value_entry, min(lane % WIDTH + j * WIDTH, UNITS - 1u));
        for (var i = 0u; i < QUERIES; i++) {
          let p = vec4f(subgroupShuffle(score[i], n + beside));
          sum[i][j] = Dims8(fma(p, value.lo, sum[i][j].lo), fma(p, value.hi, sum[i][j].hi));
        }
      }
    }
  }

  let whole = splits_of(keys) == 1u;
  for (var i = 0u; i < QUERIES; i++) {
    let seen = subgroupAdd(mass[i]);
    if (lane == 0u) {
      merge_max[subgroup] = top[i];
      merge_sum[subgroup] = seen;
    }
    for (var j = 0u; j < OWN; j++) {
      var lo = sum[i][j].lo;
      var hi = sum[i][j].hi;
      for (var d = WIDTH; d < SUBGROUP; d *= 2u) {
        lo += subgroupShuffleXor(lo, d);
        hi += subgroupShuffleXor(hi, d);
      }
      let unit = lane + j * WIDTH;
      if (lane < WIDTH && unit < UNITS) {
        merge_out[subgroup * QUADS + unit * 2u] = lo;
        merge_out[subgroup * QUADS + unit * 2u + 1u] = hi;
      }
    }
    workgroupBarrier();
    if (i / GROUP < rows) {
      let row = query_row(first, rows, i);
      let query_head = head * GROUP + i % GROUP;
      var best = LOWEST;
      for (var s = 0u; s < SUBGROUPS; s++) { best = max(best, merge_max[s]); }
      var total = 0.0;
      for (var s = 0u; s < SUBGROUPS; s++) { total += merge_sum[s] * exp2(merge_max[s] - best); }
      for (var quad = local; quad < QUADS; quad += WORKGROUP) {
        var merged = vec4f();
        for (var s = 0u; s < SUBGROUPS; s++) { merged += merge_out[s * QUADS + quad] * exp2(merge_max[s] - best); }
        if (whole) {
          out[row * OUT + query_head * QUADS + quad] = merged / total;
        } else {
          put_partial(row, query_head, split, quad, merged);
        }
      }
      if (!whole && local == 0u) { put_partial(row, query_head, split, QUADS, vec4f(best, total, 0.0, 0.0)); }
    }
    workgroupBarrier(); // the next query may overwrite what was merged
  }
}
