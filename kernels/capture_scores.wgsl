// Scores of one entry against the queries of a few rows of a sequence and the heads of a group, for kernels in which a lane has an entry.
@group(0) @binding(0) var<storage, read> q: array<vec4f>; // [rows, HEADS, QUADS], rotated
@group(0) @binding(10) var<storage, read> control: array<u32>; // [slots, CONTROL], word 4: 1 when attention is observed

const QUADS = HEAD_DIM / 4u; // vec4 per head
const OWN = (QUADS + SUBGROUP - 1u) / SUBGROUP; // quads of a lane
const QUERIES = CHUNK * GROUP;

// First lane of the subgroup that `local` is of: a constant where the workgroup is one subgroup, so that a compiler knows what all lanes share.
fn subgroup_start(local: u32) -> u32 { return select(local / SUBGROUP * SUBGROUP, 0u, WORKGROUP == SUBGROUP); }

fn is_observed(slot: u32) -> bool { return control[slot * CONTROL + 4u] == 1u; }

// Of query i of `rows` rows from `row` on: its number among all queries [rows, HEADS]. Rows that are not there repeat the last.
fn query_number(row: u32, rows: u32, head: u32, i: u32) -> u32 { return (row + min(i / GROUP, rows - 1u)) * HEADS + head * GROUP + i % GROUP; }

// The queries as the lanes hold them among them, with a factor log2 e in SCALE: of each the fours of dimensions lane, lane + SUBGROUP, …
fn queries_of(row: u32, rows: u32, head: u32, lane: u32) -> array<array<vec4f, OWN>, QUERIES> {
  var query = array<array<vec4f, OWN>, QUERIES>();
  for (var i = 0u; i < QUERIES; i++) {
    let at = query_number(row, rows, head, i) * QUADS;
    for (var j = 0u; j < OWN; j++) { query[i][j] = q[at + min(lane + j * SUBGROUP, QUADS - 1u)] * SCALE; }
  }
  return query;
}

// All lanes of a subgroup, each with an entry of its own. Gathers that stand in the code many times compile for seconds and run slower than a
// loop: so the compiler does not see how often it turns. `end` is a number of entries, which has no highest bit.
fn scores_of(entry: u32, query: ptr<function, array<array<vec4f, OWN>, QUERIES>>, end: u32) -> array<f32, QUERIES> {
  var score = array<f32, QUERIES>();
  for (var j = 0u; j < OWN; j++) {
    for (var u = 0u; u < min(SUBGROUP, QUADS - j * SUBGROUP) + (end >> 31u); u += 2u) {
      let key = k_read8(entry, (j * SUBGROUP + u) / 2u);
      for (var i = 0u; i < QUERIES; i++) {
        score[i] += dot(subgroupShuffle((*query)[i][j], u), key.lo) + dot(subgroupShuffle((*query)[i][j], u + 1u), key.hi);
      }
    }
  }
  return score;
}
