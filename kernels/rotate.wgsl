// Rotated queries and keys out of the fused projection `qkv` of every row: RoPE (Su et al. 2021) in the half-split form, where the first
// 2·HALF dimensions d and d + HALF of a head rotate together by the angle of the row's position. Qwen3 first normalises queries and
// keys per head (`head_weight`, a slot). qkv: [rows, QKV], head h starting at *_FIRST + h · *_STEP; cos_sin: [positions, HALF] pairs.
@group(0) @binding(0) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> cos_sin: array<vec2f>;

// Without a branch, which would stand in the code once for every dimension of every query. A dimension that does not turn turns by nothing.
fn rotated(at: u32, d: u32, position: u32, scale: f32, is_key: bool) -> f32 {
  let turns = d < 2u * HALF;
  let partner = select(d, select(d + HALF, d - HALF, d >= HALF), turns);
  let angle = select(vec2f(1.0, 0.0), cos_sin[position * HALF + d % HALF], turns);
  return dimension(at, d, scale, is_key) * angle.x + dimension(at, partner, scale, is_key) * select(-angle.y, angle.y, d >= HALF);
}

// The quad-th four dimensions of a head.
fn rotated4(at: u32, quad: u32, position: u32, scale: f32, is_key: bool) -> vec4f {
  var v = vec4f();
  for (var i = 0u; i < 4u; i++) { v[i] = rotated(at, quad * 4u + i, position, scale, is_key); }
  return v;
}

fn dimension(at: u32, d: u32, scale: f32, is_key: bool) -> f32 { return qkv[at + d] * scale * head_weight(d, is_key); }

fn plain4(at: u32) -> vec4f { return vec4f(qkv[at], qkv[at + 1u], qkv[at + 2u], qkv[at + 3u]); }

// 1 / sqrt(mean(x²) + eps) over the head when heads are normalised, else 1.
fn head_scale(at: u32, lane: u32) -> f32 {
  if (!HEAD_NORM) { return 1.0; }
  var squares = 0.0;
  for (var d = lane; d < HEAD_DIM; d += SUBGROUP) { squares += qkv[at + d] * qkv[at + d]; }
  return inverseSqrt(subgroupAdd(squares) / f32(HEAD_DIM) + EPS);
}

fn query_start(row: u32, head: u32) -> u32 { return row * QKV + Q_FIRST + head * Q_STEP; }
fn key_start(row: u32, head: u32) -> u32 { return row * QKV + K_FIRST + head * K_STEP; }
fn value_start(row: u32, head: u32) -> u32 { return row * QKV + V_FIRST + head * V_STEP; }

// The fours of dimensions that a lane has of an entry: lane, lane + SUBGROUP, …
const LANE_QUADS = (HEAD_DIM / 4u + SUBGROUP - 1u) / SUBGROUP;

// Write the rotated key and the value of a row and KV head into the cache, as the `index`-th entry of a table. `key` and `value` get what
// was stored.
fn append_row(
  row: u32, head: u32, table: u32, index: u32, lane: u32, key: ptr<function, array<vec4f, LANE_QUADS>>, value: ptr<function, array<vec4f, LANE_QUADS>>,
) {
  let entry = kv_entry(table, index);
  let at = key_start(row, head);
  let position = row_position(row);
  let scale = head_scale(at, lane);
  for (var j = 0u; j < LANE_QUADS; j++) {
    let quad = min(lane + j * SUBGROUP, HEAD_DIM / 4u - 1u);
    (*key)[j] = rotated4(at, quad, position, scale, true);
    (*value)[j] = plain4(value_start(row, head) + quad * 4u);
  }
  k_put(own_place(entry, index, table, head, row), lane, key);
  v_put(entry, lane, value);
  key_appended(entry, index, table, head, row, lane);
}
