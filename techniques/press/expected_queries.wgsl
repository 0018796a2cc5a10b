// R μ and R Σ Rᵀ of a query head (group.x): mean and covariance of its queries, from their sums, under the mean rotation R. R turns the
// pair of dimensions (i, i + n) by (cos, sin)[i] for the n frequencies and leaves the others. One element of R Σ Rᵀ per invocation, WIDTH
// to a row.
@group(0) @binding(0) var<storage, read> query_stats: array<f32>; // [heads, 2 · HEAD_DIM + HEAD_DIM²]: shift, sums, products
@group(0) @binding(1) var<storage, read> query_count: array<u32>; // [1]
@group(0) @binding(2) var<storage, read> params: array<f32>; // n, cos [MOST_FREQUENCIES], sin [MOST_FREQUENCIES]
@group(0) @binding(3) var<storage, read_write> mean: array<f32>; // [heads, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> spread: array<f32>; // [heads, HEAD_DIM, WIDTH]

// Row `dim` of R: what it takes of `dim` itself, and of which other dimension how much.
struct Turn { own: f32, other: f32, partner: u32 }

fn turn(dim: u32) -> Turn {
  let n = u32(params[0]);
  if (dim >= 2u * n) { return Turn(1.0, 0.0, dim); }
  let i = dim % n;
  let sin = params[1u + MOST_FREQUENCIES + i];
  return Turn(params[1u + i], select(sin, -sin, dim < n), select(dim - n, dim + n, dim < n));
}

fn centre(head: u32, dim: u32) -> f32 { // of the differences from the shift
  return query_stats[head * (2u * HEAD_DIM + HEAD_DIM * HEAD_DIM) + HEAD_DIM + dim] / f32(max(query_count[0], 1u));
}

fn average(head: u32, dim: u32) -> f32 {
  return query_stats[head * (2u * HEAD_DIM + HEAD_DIM * HEAD_DIM) + dim] + centre(head, dim);
}

fn covariance(head: u32, a: u32, b: u32) -> f32 {
  let products = head * (2u * HEAD_DIM + HEAD_DIM * HEAD_DIM) + 2u * HEAD_DIM;
  return query_stats[products + a * HEAD_DIM + b] / f32(max(query_count[0], 1u)) - centre(head, a) * centre(head, b);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let element = group.y * 64u + local;
  if (element >= HEAD_DIM * WIDTH) { return; }
  let row = element / WIDTH;
  let column = element % WIDTH;
  let at = head * HEAD_DIM * WIDTH + element;
  if (column >= HEAD_DIM) {
    spread[at] = 0.0;
    return;
  }
  let r = turn(row);
  let c = turn(column);
  spread[at] = r.own * (c.own * covariance(head, row, column) + c.other * covariance(head, row, c.partner))
    + r.other * (c.own * covariance(head, r.partner, column) + c.other * covariance(head, r.partner, c.partner));
  if (row == 0u) { mean[head * HEAD_DIM + column] = c.own * average(head, column) + c.other * average(head, c.partner); }
}
