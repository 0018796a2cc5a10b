// Attention over the paged cache: out = softmax(q kᵀ · SCALE) v per query head, causal. A workgroup takes one KV head and one tile of
// up to TILE_ROWS rows of a sequence, with all GROUP query heads of that KV head: QUERIES = TILE_ROWS · GROUP queries that read each
// key and value once. Keys come SUBGROUP at a time: a lane scores one key for every query (so any head_dim fits), then all lanes add
// up the values with their dimensions split among them. Softmax runs online in f32 (Milakov and Gimelshein 2018).
// With several subgroups each takes every n-th group of keys, and their partial results are merged once, in index order.
// A slot says where queries come from: rotated and appended before (query_read.wgsl), or here (query_rotate.wgsl); another whether the
// keys of a long row are shared among SPLITS workgroups (splits.wgsl).
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>; // rows of OUT vec4 that begin with [HEADS, UNITS]

const SUBGROUPS = WORKGROUP / SUBGROUP;
const OWN = (UNITS + SUBGROUP - 1u) / SUBGROUP; // units of a lane: lane, lane + SUBGROUP, …
const QUERIES = TILE_ROWS * GROUP;
const LOWEST = -3.0e38;

var<workgroup> merge_max: array<f32, SUBGROUPS>;
var<workgroup> merge_sum: array<f32, SUBGROUPS>;
var<workgroup> merge_out: array<vec4f, SUBGROUPS * UNITS>;

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
  if (begin < keys && end == keys) { append_own(first, head, table, local); }

  var query: array<array<vec4f, OWN>, QUERIES>;
  var sum: array<array<vec4f, OWN>, QUERIES>;
  var top: array<f32, QUERIES>;
  var mass: array<f32, QUERIES>;
  for (var i = 0u; i < QUERIES; i++) {
    let row = query_row(first, rows, i);
    let query_head = head * GROUP + i % GROUP;
    let scale = query_scale(row, query_head, lane);
    for (var j = 0u; j < OWN; j++) {
      query[i][j] = query4(row, query_head, min(lane + j * SUBGROUP, UNITS - 1u), scale) * SCALE;
    }
    top[i] = LOWEST;
  }

  for (var base = begin + subgroup * SUBGROUP; base < end; base += WORKGROUP) {
    let index = base + lane;
    let entry = kv_entry(table, min(index, end - 1u)) * UNITS;
    // Written out: Dawn zeroes a variable declared without a value once, not on every turn of the loop.
    var score = array<f32, QUERIES>();
    for (var j = 0u; j < OWN; j++) {
      for (var u = 0u; u < min(SUBGROUP, UNITS - j * SUBGROUP); u++) {
        let key = kv_unpack(k_pool[entry + j * SUBGROUP + u]);
        for (var i = 0u; i < QUERIES; i++) { score[i] += dot(subgroupShuffle(query[i][j], u), key); }
      }
    }
    for (var i = 0u; i < QUERIES; i++) {
      // Row r of the tile sees one entry more than row r − 1.
      let visible = index < before + i / GROUP + 1u && index < end;
      let s = select(LOWEST, score[i], visible);
      let best = max(top[i], subgroupMax(s));
      let keep = exp(top[i] - best);
      let p = select(0.0, exp(s - best), visible);
      top[i] = best;
      mass[i] = mass[i] * keep + subgroupAdd(p);
      score[i] = p;
      for (var j = 0u; j < OWN; j++) { sum[i][j] *= keep; }
    }
    for (var n = 0u; n < min(SUBGROUP, end - base); n++) {
      let value_at = subgroupShuffle(entry, n);
      for (var j = 0u; j < OWN; j++) {
        let value = kv_unpack(v_pool[value_at + min(lane + j * SUBGROUP, UNITS - 1u)]);
        for (var i = 0u; i < QUERIES; i++) { sum[i][j] = fma(vec4f(subgroupShuffle(score[i], n)), value, sum[i][j]); }
      }
    }
  }

  let whole = splits_of(keys) == 1u;
  for (var i = 0u; i < QUERIES; i++) {
    let stored = i / GROUP < rows;
    let row = query_row(first, rows, i);
    let query_head = head * GROUP + i % GROUP;
    if (SUBGROUPS == 1u) {
      for (var j = 0u; j < OWN; j++) {
        let unit = lane + j * SUBGROUP;
        if (stored && unit < UNITS) { finish(row, query_head, split, unit, sum[i][j], mass[i], whole); }
      }
      if (!whole && lane == 0u) { put_partial(row, query_head, split, UNITS, vec4f(top[i], mass[i], 0.0, 0.0)); }
      continue;
    }
    workgroupBarrier(); // the merge of the query before is over
    for (var j = 0u; j < OWN; j++) {
      let unit = lane + j * SUBGROUP;
      if (unit < UNITS) { merge_out[subgroup * UNITS + unit] = sum[i][j]; }
    }
    if (lane == 0u) {
      merge_max[subgroup] = top[i];
      merge_sum[subgroup] = mass[i];
    }
    workgroupBarrier();
    var best = LOWEST;
    for (var s = 0u; s < SUBGROUPS; s++) { best = max(best, merge_max[s]); }
    var total = 0.0;
    for (var s = 0u; s < SUBGROUPS; s++) { total += merge_sum[s] * exp(merge_max[s] - best); }
    for (var unit = local; unit < UNITS; unit += WORKGROUP) {
      var merged = vec4f();
      for (var s = 0u; s < SUBGROUPS; s++) { merged += merge_out[s * UNITS + unit] * exp(merge_max[s] - best); }
      if (stored) { finish(row, query_head, split, unit, merged, total, whole); }
    }
    if (!whole && local == 0u) { put_partial(row, query_head, split, UNITS, vec4f(best, total, 0.0, 0.0)); }
  }
}

// The result of a query, or what one of its splits has of it.
fn finish(row: u32, query_head: u32, split: u32, unit: u32, sum: vec4f, mass: f32, whole: bool) {
  if (whole) { out[row * OUT + query_head * UNITS + unit] = sum / mass; } else { put_partial(row, query_head, split, unit, sum); }
}
