// What makes softmax weights of a row's scores: their greatest and Σ 2^(score − greatest), for every head. Workgroups (KV head, row); of a
// run of rows every CHUNK-th works, for CHUNK rows, and its lanes share the entries.
@group(0) @binding(1) var<storage, read_write> stats: array<vec2f>; // [rows, HEADS]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let row = group.y;
  if (row_offset(row) % CHUNK != 0u || !is_observed(row_sequence(row))) { return; }
  let rows = run_rows(row, CHUNK);
  let table = table_of(row_sequence(row), head);
  let before = lengths[table] + row_offset(row); // entries before the first of these rows
  let end = before + rows;

  var query = queries_of(row, rows, head, local % SUBGROUP);
  var top = array<f32, QUERIES>();
  var mass = array<f32, QUERIES>();
  for (var i = 0u; i < QUERIES; i++) { top[i] = LOWEST; }
  for (var base = subgroup_start(local); base < end; base += WORKGROUP) {
    let index = base + local % SUBGROUP;
    let score = scores_of(kv_entry_of_lane(table, base, local % SUBGROUP, end - 1u), &query, end);
    for (var i = 0u; i < QUERIES; i++) {
      // Row r of these sees one entry more than row r − 1.
      let seen = index <= before + i / GROUP;
      let s = select(LOWEST, score[i], seen);
      let best = max(top[i], s);
      mass[i] = mass[i] * exp2(top[i] - best) + select(0.0, exp2(s - best), seen);
      top[i] = best;
    }
  }
  for (var i = 0u; i < QUERIES; i++) {
    let best = best_of_all(Best(top[i], 0u), local).value;
    let sum = total(mass[i] * exp2(top[i] - best), local);
    if (local == 0u && i / GROUP < rows) { stats[query_number(row, rows, head, i)] = vec2f(best, sum); }
  }
}
