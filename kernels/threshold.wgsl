// Where to cut the scores of heads, one workgroup per head, or one for all heads (TOGETHER). cut[head] = threshold (as scores.wgsl orders
// numbers), how many of the scores equal to it are kept, scores kept in all, 0. `threshold_of` is a slot: it chooses a threshold for the
// scores of heads `first` to `end` and says how many of those equal to it are kept; here they are dealt out, lower heads first.
@group(0) @binding(0) var<storage, read> scores: array<vec4u>; // f32 [HEADS, COLUMNS]
@group(0) @binding(2) var<storage, read_write> cut: array<vec4u>; // [HEADS]

// How many scores of a head are at least each of four candidates, none of them 0, as far as this lane sees.
fn count_from(candidates: vec4u, head: u32, local: u32) -> vec4u {
  let length = lengths[head];
  var counts = vec4u();
  for (var quad = local; quad * 4u < length; quad += WORKGROUP) {
    let order = select(vec4u(), ordered4(scores[head * (COLUMNS / 4u) + quad]), inside4(quad * 4u, length));
    counts += vec4u(
      dot(ONES, vec4u(order >= candidates.xxxx)), dot(ONES, vec4u(order >= candidates.yyyy)), dot(ONES, vec4u(order >= candidates.zzzz)), 0u,
    );
  }
  return counts;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = select(group.x, 0u, TOGETHER);
  let end = select(group.x + 1u, HEADS, TOGETHER);
  let found = threshold_of(first, end, local);
  var left = found.y;
  for (var head = first; head < end; head++) {
    // A threshold of 0, the order of NaN, is below what `count_from` counts: all the others are equal to it.
    let counts = total(count_from(vec4u(max(found.x, 1u), found.x + 1u, 1u, 0u), head, local), local);
    let above = select(counts.y, 0u, found.x == 0xffffffffu);
    let reached = select(counts.x, lengths[head], found.x == 0u);
    let equal = min(left, reached - above);
    left -= equal;
    if (local == 0u) { cut[head] = vec4u(found.x, equal, above + equal, 0u); }
  }
}
