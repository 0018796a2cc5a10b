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
