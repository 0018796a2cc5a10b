// The greatest logit of each query of the window and Σ exp(logit − it), over the entries that the query sees: query w of WINDOW sees all
// but the last WINDOW − 1 − w. A workgroup takes a query head (group.x) and eight of its queries (group.y) at a time, its lanes entries
// side by side.
@group(0) @binding(0) var<storage, read> lengths: array<u32>; // [heads / GROUP]
@group(0) @binding(1) var<storage, read> keys: array<f32>; // [heads / GROUP, HEAD_DIM, COLUMNS]
@group(0) @binding(2) var<storage, read> queries: array<vec4f>; // [WINDOW, HEADS, HEAD_DIM / 4]
@group(0) @binding(3) var<storage, read_write> statistics: array<vec2f>; // [HEADS, WINDOW]

const LOWEST = -1e30; // below every logit, and far enough from the end of f32 that differences stay finite
const SUBGROUPS = WORKGROUP / SUBGROUP;
const D4 = HEAD_DIM / 4u;
var<workgroup> partial: array<array<vec4f, 4>, SUBGROUPS>; // greatest of eight queries, sums of eight queries

struct Eight { low: vec4f, high: vec4f }

fn query(w: u32, head: u32, d: u32) -> vec4f { return queries[(min(w, WINDOW - 1u) * HEADS + head) * D4 + d]; }

// Logits of queries first … first + 7 at one entry.
fn logits(head: u32, first: u32, entry: u32, dims: u32) -> Eight {
  var low = vec4f();
  var high = vec4f();
  for (var d = 0u; d < dims; d++) {
    let at = (head / GROUP * HEAD_DIM + 4u * d) * COLUMNS + entry;
    let k = vec4f(keys[at], keys[at + COLUMNS], keys[at + 2u * COLUMNS], keys[at + 3u * COLUMNS]);
    low += vec4f(dot(k, query(first, head, d)), dot(k, query(first + 1u, head, d)), dot(k, query(first + 2u, head, d)), dot(k, query(first + 3u, head, d)));
    high += vec4f(dot(k, query(first + 4u, head, d)), dot(k, query(first + 5u, head, d)), dot(k, query(first + 6u, head, d)), dot(k, query(first + 7u, head, d)));
  }
  return Eight(SCALE * low, SCALE * high);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let dims = min(D4, group.x + D4); // seems to vary: a short loop unrolled whole takes a software adapter seconds to compile
  let head = group.x;
  let first = group.y * 8u;
  let n = lengths[head / GROUP];
  // Entry e is seen by query w when e + WINDOW ≤ n + w.
  let low_query = vec4u(first) + vec4u(0u, 1u, 2u, 3u);
  let high_query = low_query + 4u;
  var most = Eight(vec4f(LOWEST), vec4f(LOWEST));
  var sum = Eight(vec4f(), vec4f());
  for (var entry = local; entry < n; entry += WORKGROUP) {
    let all = logits(head, first, entry, dims);
    let low = select(vec4f(LOWEST), all.low, vec4u(entry + WINDOW) <= vec4u(n) + low_query);
    let high = select(vec4f(LOWEST), all.high, vec4u(entry + WINDOW) <= vec4u(n) + high_query);
    let now = Eight(max(most.low, low), max(most.high, high));
    // An entry that is not seen adds exp(LOWEST − …) = 0, or 1 as long as nothing has been seen: dropped with the first that is.
    sum.low = sum.low * exp(most.low - now.low) + exp(low - now.low);
    sum.high = sum.high * exp(most.high - now.high) + exp(high - now.high);
    most = now;
  }
  var all_most = Eight(subgroupMax(most.low), subgroupMax(most.high));
  var all_sum = Eight(subgroupAdd(sum.low * exp(most.low - all_most.low)), subgroupAdd(sum.high * exp(most.high - all_most.high)));
  if (SUBGROUPS > 1u) {
    if (local % SUBGROUP == 0u) { partial[local / SUBGROUP] = array(all_most.low, all_most.high, all_sum.low, all_sum.high); }
    workgroupBarrier();
    for (var i = 0u; i < SUBGROUPS; i++) { all_most = Eight(max(all_most.low, partial[i][0]), max(all_most.high, partial[i][1])); }
    all_sum = Eight(vec4f(), vec4f());
    for (var i = 0u; i < SUBGROUPS; i++) {
      all_sum.low += partial[i][2] * exp(partial[i][0] - all_most.low);
      all_sum.high += partial[i][3] * exp(partial[i][1] - all_most.high);
    }
  }
  if (local != 0u) { return; }
  for (var i = 0u; i < min(8u, WINDOW - first); i++) {
    let of_low = vec2f(all_most.low[i % 4u], all_sum.low[i % 4u]);
    let of_high = vec2f(all_most.high[i % 4u], all_sum.high[i % 4u]);
    statistics[head * WINDOW + first + i] = select(of_high, of_low, i < 4u);
  }
}
