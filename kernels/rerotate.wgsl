// Rotate moved keys from the position order[i] that they were rotated for to i, the place where they are now: by the angle of (i - order[i]),
// which is not above 0, so the table's row of the difference is turned backwards. Dimensions d and d + HALF, of the first 2·HALF, turn
// together; the others stay. A key whose place is the same is not touched, and so not rounded again. Workgroup (head, part) takes TURN
// keys, a subgroup one after the other; the lanes have fours of dimensions: lane, lane + SUBGROUP, …
@group(0) @binding(5) var<storage, read> cos_sin: array<vec2f>; // [positions, HALF]

const QUADS = HEAD_DIM / 4u;
const LANE_QUADS = (QUADS + SUBGROUP - 1u) / SUBGROUP;

fn key4(entry: u32, quad: u32) -> vec4f {
  let dims = k_read8(entry, quad / 2u);
  return select(dims.lo, dims.hi, quad % 2u == 1u);
}

fn partner(d: u32) -> u32 { return select(d + HALF, d - HALF, d >= HALF); }

// The dimensions that those of `quad` turn with; beyond 2·HALF anything.
fn partners4(entry: u32, quad: u32) -> vec4f {
  if (HALF % 4u == 0u) { return key4(entry, partner(quad * 4u) / 4u); }
  // Four times, but unknown to the compiler: unrolled, the loop takes a software adapter seconds to compile.
  let four = 4u * arrayLength(&cut) / KV_HEADS;
  var v = vec4f();
  for (var i = 0u; i < four; i++) {
    let d = partner(quad * 4u + i);
    v[i] = key4(entry, d / 4u)[d % 4u];
  }
  return v;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let lane = local % SUBGROUP;
  let first = group.y * TURN + select(local / SUBGROUP, 0u, WORKGROUP == SUBGROUP);
  let end = min(kept_of(head), (group.y + 1u) * TURN);
  for (var index = first; index < end; index += WORKGROUP / SUBGROUP) {
    let back = old_index(head, index) - index;
    if (back == 0u) { continue; }
    let entry = fresh_entry(head, index);
    var key = array<vec4f, LANE_QUADS>();
    for (var j = 0u; j < LANE_QUADS; j++) {
      let quad = min(lane + j * SUBGROUP, QUADS - 1u);
      let own = key4(entry, quad);
      let other = partners4(entry, quad);
      var turned = vec4f();
      for (var i = 0u; i < 4u; i++) {
        let d = quad * 4u + i;
        let angle = select(vec2f(1.0, 0.0), cos_sin[back * HALF + d % HALF], d < 2u * HALF);
        turned[i] = own[i] * angle.x + other[i] * select(angle.y, -angle.y, d >= HALF);
      }
      // The exchange is there so that every lane has read before one writes what another reads.
      key[j] = subgroupShuffle(turned, lane);
    }
    k_put(entry, lane, &key);
  }
}
