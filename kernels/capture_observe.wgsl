// Add the attention of a step's rows, all query heads of a group, to the notes of the entries that they see. A lane has an entry, which is
// nobody else's, and takes the rows one after the other: no two write the same word, and sums are made in the order of rows. Workgroups
// (KV head and one of STRIPES that share its entries, tile of the batch: of a run of rows the first alone works).
@group(0) @binding(1) var<storage, read> stats: array<vec2f>; // [rows, HEADS], of capture_softmax.wgsl
@group(0) @binding(11) var<storage, read_write> notes: array<u32>; // [entries, NOTE_WORDS]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = tile_first(group.y);
  if (row_offset(row) != 0u || !is_observed(row_sequence(row))) { return; }
  let head = group.x / STRIPES;
  let rows = run_rows(row, BATCH_ROWS);
  let table = table_of(row_sequence(row), head);
  let before = lengths[table];
  let end = before + rows;
  for (var base = group.x % STRIPES * WORKGROUP + subgroup_start(local); base < end; base += STRIPES * WORKGROUP) {
    let index = base + local % SUBGROUP;
    let entry = kv_entry_of_lane(table, base, local % SUBGROUP, end - 1u);
    var got = 0.0;
    // Entries of the step itself are seen by their own row and those behind it.
    for (var r = select(0u, (base - before) / CHUNK * CHUNK, base > before); r < rows; r += CHUNK) {
      let count = min(CHUNK, rows - r);
      var query = queries_of(row + r, count, head, local % SUBGROUP);
      let score = scores_of(entry, &query, end);
      for (var i = 0u; i < QUERIES; i++) {
        let row_stats = stats[query_number(row + r, count, head, i)];
        got += select(0.0, exp2(min(score[i] - row_stats.x, 0.0)) / row_stats.y, i / GROUP < count && index <= before + r + i / GROUP);
      }
    }
    if (index < end) {
      let at = entry * NOTE_WORDS + NOTE_ATTENTION;
      notes[at] = bitcast<u32>(bitcast<f32>(notes[at]) + got);
    }
  }
}
