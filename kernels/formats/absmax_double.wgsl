// The largest magnitude of each block, itself quantized: map[code] · nested + offset, `nested` for every NESTED blocks and `offset` for the
// whole of a matrix. Words: three offsets and one of padding, the map, the codes of one matrix after the other (from byte 0, BLOCKS1 and
// BLOCKS2 on), then from word NESTED_FIRST on their nested scales (from 0, NESTED1 and NESTED2 on).
@group(0) @binding(7) var<storage, read> scales: array<u32>;

fn absmax(row: u32, k: u32) -> f32 {
  let place = place_of(row, k);
  let at = of_source(place.source, 0u, BLOCKS1, BLOCKS2) + place.block;
  let code = (scales[260u + at / 4u] >> (at % 4u * 8u)) & 255u;
  let nested = scales[NESTED_FIRST + of_source(place.source, 0u, NESTED1, NESTED2) + place.block / NESTED];
  return fma(bitcast<f32>(scales[4u + code]), bitcast<f32>(nested), bitcast<f32>(scales[place.source]));
}
