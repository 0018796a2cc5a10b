// Outliers of a row, in order of their columns, made by the first subgroup alone.
@group(0) @binding(5) var<storage, read_write> outliers: array<vec2u>; // [M, VERSIONS, K]: column, bits of the value

// `beyond`: bits of the largest magnitude, whose highest is 0. A compiler does not know that, and leaves the loops as they are: unrolled,
// they would take a software adapter seconds to compile.
fn keep_outliers(row: u32, beyond: u32, lane: u32) -> u32 {
  let open = beyond >> 31u;
  var kept = 0u;
  for (var first = 0u; first < K / 4u + open; first += SUBGROUP) {
    let c = min(first + lane, K / 4u - 1u);
    let values = bitcast<vec4u>(normed(c));
    let own = select(vec4u(), vec4u(1u), ((values & vec4u(0x7fffffffu)) >= vec4u(OUTLIER)) & vec4<bool>(first + lane < K / 4u));
    let count = own.x + own.y + own.z + own.w;
    var at = row * K + kept + subgroupExclusiveAdd(count);
    for (var i = 0u; i < 4u + open; i++) {
      if (own[i] == 1u) {
        outliers[at] = vec2u(c * 4u + i, values[i]);
        count_column(c * 4u + i);
        at++;
      }
    }
    kept += subgroupAdd(count);
  }
  if (lane == 0u) { count_outliers(kept); }
  return kept;
}
