// Add the queries of a step, normed per head but not rotated, to what is known of their distribution: a shift c, Σ(q − c) and Σ(q − c)(q − c)ᵀ
// for each slot and head. The shift is the query at the first position that counts, which begins everything anew: so sums of squares
// do not drown what differs between queries in what they have in common. A workgroup is one subgroup; it takes the whole run of rows of
// a sequence, whose sums nobody else adds to, and eight rows of the matrix, of which a lane has four columns. Workgroups (head, eight
// rows and SUBGROUP fours of columns; tile of the batch: of a run the first alone works).
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>; // [slots, HEADS, WORDS]
@group(0) @binding(10) var<storage, read> control: array<u32>; // [slots, CONTROL], word 2: first position that counts; 3: end of those

const QUADS = HEAD_DIM / 4u;
const WORDS = 2u * QUADS + HEAD_DIM * QUADS; // of four numbers
const PARTS = (QUADS + SUBGROUP - 1u) / SUBGROUP;

fn query4(at: u32, quad: u32, scale: f32) -> vec4f {
  let d = quad * 4u;
  return vec4f(dimension(at, d, scale, false), dimension(at, d + 1u, scale, false), dimension(at, d + 2u, scale, false), dimension(at, d + 3u, scale, false));
}

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = tile_first(group.y);
  if (row_offset(row) != 0u) { return; }
  let slot = row_sequence(row);
  let first = control[slot * CONTROL + 2u];
  let position = row_position(row);
  let begin = max(first, position);
  let end = min(control[slot * CONTROL + 3u], position + run_rows(row, BATCH_ROWS));
  if (begin >= end) { return; }

  let head = group.x / (HEAD_DIM / 8u * PARTS);
  let down = group.x / PARTS % (HEAD_DIM / 8u) * 8u;
  let own = group.x % PARTS * SUBGROUP + lane;
  let quad = min(own, QUADS - 1u);
  let stats = (slot * HEADS + head) * WORDS;

  // The query that becomes the shift: read where it stands, because workgroups that have it already write it to `out`.
  let fresh = begin == first;
  let start = query_start(row + begin - position, head);
  let start_scale = head_scale(start, lane);
  let shift = select(out[stats + quad], query4(start, quad, start_scale), fresh);
  var shift_down = array<f32, 8>();
  for (var i = 0u; i < 8u; i++) {
    shift_down[i] = select(out[stats + (down + i) / 4u][(down + i) % 4u], dimension(start, down + i, start_scale, false), fresh);
  }

  var sum = vec4f();
  var products = array<vec4f, 8>();
  for (var p = begin; p < end; p++) {
    let at = query_start(row + p - position, head);
    let scale = head_scale(at, lane);
    let apart = query4(at, quad, scale) - shift;
    sum += apart;
    for (var i = 0u; i < 8u; i++) { products[i] = fma(vec4f(dimension(at, down + i, scale, false) - shift_down[i]), apart, products[i]); }
  }

  if (own >= QUADS) { return; }
  for (var i = 0u; i < 8u; i++) {
    let at = stats + (2u + down + i) * QUADS + quad;
    out[at] = select(out[at], vec4f(), fresh) + products[i];
  }
  if (down != 0u) { return; }
  if (fresh) { out[stats + quad] = shift; }
  out[stats + QUADS + quad] = select(out[stats + QUADS + quad], vec4f(), fresh) + sum;
}
