// A weight may be made of up to three matrices, stacked (from rows ROW1 and ROW2 on) or two side by side (from column COLUMN1 on), each cut
// into blocks of BLOCK weights in row-major order of its own. Block of the weight in column k of a row within its matrix, and which that is.
struct Place { block: u32, source: u32 }

fn place_of(row: u32, k: u32) -> Place {
  if (SOURCES == 1u) { return Place((row * K + k) / BLOCK, 0u); }
  if (COLUMN1 < K) {
    if (k >= COLUMN1) { return Place((row * (K - COLUMN1) + k - COLUMN1) / BLOCK, 1u); }
    return Place((row * COLUMN1 + k) / BLOCK, 0u);
  }
  if (row >= ROW2) { return Place(((row - ROW2) * K + k) / BLOCK, 2u); }
  if (row >= ROW1) { return Place(((row - ROW1) * K + k) / BLOCK, 1u); }
  return Place((row * K + k) / BLOCK, 0u);
}

fn of_source(source: u32, first: u32, second: u32, third: u32) -> u32 { return select(select(first, second, source == 1u), third, source == 2u); }
