// Go through the scores of a head, one workgroup per head, and tell the slot `entry` of each whether the cut keeps it, and how many it keeps
// before: it keeps what is above the threshold, and of what is equal to it the first. Every lane takes four scores of a turn; what is
// above and equal before a lane is counted in one scan, in halves of a word, which are wide enough for a turn.
@group(0) @binding(2) var<storage, read> cut: array<vec4u>; // [HEADS]; threshold.wgsl says what they are

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let length = lengths[head];
  let threshold = cut[head].x;
  let most_equal = cut[head].y;
  var above = 0u;
  var equal = 0u;
  for (var start = 0u; start < length; start += 4u * WORKGROUP) {
    let first = start + 4u * local;
    let ordered = ordered4(scores[min(head * COLUMNS + first, HEADS * COLUMNS - 4u) / 4u]);
    let inside = inside4(first, length);
    let is_above = vec4u(inside & (ordered > vec4u(threshold)));
    let is_equal = vec4u(inside & (ordered == vec4u(threshold)));
    let sums = scan(dot(is_above, ONES) | (dot(is_equal, ONES) << 16u), local);
    var above_before = above + (sums.x & 0xffffu);
    var equal_before = equal + (sums.x >> 16u);
    for (var i = 0u; i < 4u; i++) {
      let kept = is_above[i] + select(0u, is_equal[i], equal_before < most_equal) > 0u;
      if (inside[i]) { entry(head, first + i, kept, above_before + min(equal_before, most_equal)); }
      above_before += is_above[i];
      equal_before += is_equal[i];
    }
    above += sums.y & 0xffffu;
    equal += sums.y >> 16u;
  }
}
