// Rotated queries and keys out of the fused projection `qkv` of every row: RoPE (Su et al. 2021) in the half-split form, where the first
// 2·HALF dimensions d and d + HALF of a head rotate together by the angle of the row's position. Qwen3 first normalises queries and
// keys per head (`head_weight`, a slot). qkv: [rows, QKV], head h starting at *_FIRST + h · *_STEP; cos_sin: [positions, HALF] pairs.
@group(0) @binding(0) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> cos_sin: array<vec2f>;

const UNITS = HEAD_DIM / 4u; // vec4 per head

fn dimension(at: u32, d: u32, scale: f32, is_key: bool) -> f32 { return qkv[at + d] * scale * head_weight(d, is_key); }

fn rotated(at: u32, d: u32, position: u32, scale: f32, is_key: bool) -> f32 {
  let value = dimension(at, d, scale, is_key);
  if (d >= 2u * HALF) { return value; }
  let angle = cos_sin[position * HALF + d % HALF];
  if (d < HALF) { return value * angle.x - dimension(at, d + HALF, scale, is_key) * angle.y; }
  return value * angle.x + dimension(at, d - HALF, scale, is_key) * angle.y;
}

fn rotated4(at: u32, unit: u32, position: u32, scale: f32, is_key: bool) -> vec4f {
  var v = vec4f();
  for (var i = 0u; i < 4u; i++) { v[i] = rotated(at, unit * 4u + i, position, scale, is_key); }
  return v;
}

// 1 / sqrt(mean(x²) + eps) over the head when heads are normalised, else 1.
fn head_scale(at: u32, lane: u32) -> f32 {
  if (!HEAD_NORM) { return 1.0; }
  var squares = 0.0;
  for (var d = lane; d < HEAD_DIM; d += SUBGROUP) { squares += qkv[at + d] * qkv[at + d]; }
  return inverseSqrt(subgroupAdd(squares) / f32(HEAD_DIM) + EPS);
}

fn query_start(row: u32, head: u32) -> u32 { return row * QKV + Q_FIRST + head * Q_STEP; }

// Write the keys and values of a row and KV head into the cache, behind what its table holds and the rows of this step before it.
fn append_row(row: u32, head: u32, table: u32, lane: u32) {
  let to = kv_entry(table, lengths[table] + row_offset(row)) * UNITS;
  let at = row * QKV + K_FIRST + head * K_STEP;
  let v_at = row * QKV + V_FIRST + head * V_STEP;
  let scale = head_scale(at, lane);
  for (var unit = lane; unit < UNITS; unit += SUBGROUP) {
    let v = v_at + unit * 4u;
    k_pool[to + unit] = kv_pack(rotated4(at, unit, row_position(row), scale, true));
    v_pool[to + unit] = kv_pack(vec4f(qkv[v], qkv[v + 1u], qkv[v + 2u], qkv[v + 3u]));
  }
}
