// The largest magnitude of each block, in f32.
@group(0) @binding(7) var<storage, read> scales: array<f32>; // of one matrix after the other, from 0, BLOCKS1 and BLOCKS2 on

fn absmax(row: u32, k: u32) -> f32 {
  let place = place_of(row, k);
  return scales[of_source(place.source, 0u, BLOCKS1, BLOCKS2) + place.block];
}
