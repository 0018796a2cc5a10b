// The mean softmax weight that an entry gets from all queries of the window, over the query heads of its group. Entries of the window
// itself are left out: all others are seen by every query. One entry of a KV head (group.x) per invocation, eight queries at a time.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads / GROUP]
@group(0) @binding(1) var<storage, read> keys: array<f32>; // [heads / GROUP, HEAD_DIM, COLUMNS]
@group(0) @binding(2) var<storage, read> queries: array<vec4f>; // [WINDOW, HEADS, HEAD_DIM / 4]
@group(0) @binding(3) var<storage, read> statistics: array<vec2f>; // [HEADS, WINDOW]
@group(0) @binding(4) var<storage, read_write> weights: array<f32>; // [heads / GROUP, COLUMNS]

const D4 = HEAD_DIM / 4u;

fn query(w: u32, head: u32, d: u32) -> vec4f { return queries[(min(w, WINDOW - 1u) * HEADS + head) * D4 + d]; }

// Of query w with this logit; 0 where there is no such query.
fn weight(logit: f32, head: u32, w: u32) -> f32 {
  let of_query = statistics[head * WINDOW + min(w, WINDOW - 1u)];
  return select(0.0, exp(SCALE * logit - of_query.x) / of_query.y, w < WINDOW);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let dims = min(D4, group.x + D4); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  let entry = group.y * 64u + local;
  if (entry + WINDOW >= lengths[group.x]) { return; }
  var sum = 0.0;
  for (var head = group.x * GROUP; head < (group.x + 1u) * GROUP; head++) {
    for (var w = 0u; w < WINDOW; w += 8u) {
      var low = vec4f();
      var high = vec4f();
      for (var d = 0u; d < dims; d++) {
        let at = (group.x * HEAD_DIM + 4u * d) * COLUMNS + entry;
        let k = vec4f(keys[at], keys[at + COLUMNS], keys[at + 2u * COLUMNS], keys[at + 3u * COLUMNS]);
        low += vec4f(dot(k, query(w, head, d)), dot(k, query(w + 1u, head, d)), dot(k, query(w + 2u, head, d)), dot(k, query(w + 3u, head, d)));
        high += vec4f(dot(k, query(w + 4u, head, d)), dot(k, query(w + 5u, head, d)), dot(k, query(w + 6u, head, d)), dot(k, query(w + 7u, head, d)));
      }
      sum += weight(low.x, head, w) + weight(low.y, head, w + 1u) + weight(low.z, head, w + 2u) + weight(low.w, head, w + 3u)
        + weight(high.x, head, w + 4u) + weight(high.y, head, w + 5u) + weight(high.z, head, w + 6u) + weight(high.w, head, w + 7u);
    }
  }
  weights[group.x * COLUMNS + entry] = sum / f32(WINDOW * GROUP);
}
