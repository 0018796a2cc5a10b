// Where a row finds keys of format kivi4: those of its own block as f16 (`recent_place` says where), all before as they were quantized. So
// what a row reads follows from its position alone, not from how the tokens before it were cut into steps. `row` is any row of the block,
// the `index`-th entry of its table, and `wanted` the number of the entry it wants.
fn key_place(entry: u32, wanted: u32, index: u32, table: u32, head: u32, row: u32) -> u32 {
  return select(entry, recent_place(wanted, index, table, head, row) | K_RECENT, wanted >= index / BLOCK * BLOCK);
}
fn own_place(entry: u32, index: u32, table: u32, head: u32, row: u32) -> u32 { return recent_place(index, index, table, head, row); }
