// Rotate and append: from the fused projection `qkv` of every row come the rotated queries (to `q`), and the rotated keys and the
// values, which go into the cache at the next free entries of each KV head. One subgroup per (row, head); workgroup x is a query head,
// then a KV head. RoPE (Su et al. 2021) in the half-split form: the first 2·HALF dimensions d and d + HALF of a head rotate together
// by the angle of the row's position. Qwen3 first normalises queries and keys per head (`head_norm`, a slot).
// qkv: [rows, QKV]; head h starts at *_FIRST + h · *_STEP. cos_sin: [positions, HALF] pairs. q: [rows, HEADS, HEAD_DIM].
@group(0) @binding(0) var<storage, read> qkv: array<f32>;
@group(0) @binding(1) var<storage, read_write> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> cos_sin: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> k_pool: array<kv4>; // [blocks · BLOCK, HEAD_DIM / 4]
@group(0) @binding(4) var<storage, read_write> v_pool: array<kv4>;

const UNITS = HEAD_DIM / 4u;

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

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let is_key = group.x >= HEADS;
  let head = select(group.x, group.x - HEADS, is_key);
  let at = row * QKV + select(Q_FIRST + head * Q_STEP, K_FIRST + head * K_STEP, is_key);
  let v_at = row * QKV + V_FIRST + head * V_STEP;
  let scale = head_scale(at, lane);
  var to = (row * HEADS + head) * UNITS;
  if (is_key) {
    let table = table_of(row_sequence(row), head);
    to = kv_entry(table, lengths[table] + row_offset(row)) * UNITS;
  }
  for (var unit = lane; unit < UNITS; unit += SUBGROUP) {
    let value = rotated4(at, unit, row_position(row), scale, is_key);
    if (is_key) {
      let v = v_at + unit * 4u;
      k_pool[to + unit] = kv_pack(value);
      v_pool[to + unit] = kv_pack(vec4f(qkv[v], qkv[v + 1u], qkv[v + 2u], qkv[v + 3u]));
    } else {
      q[to + unit] = value;
    }
  }
}
