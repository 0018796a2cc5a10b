// Decoding: the newest keys of a table, those of the block that is not full, are its tail. Whoever fills the block quantizes it; the row
// itself still reads the tail, so nobody waits for that.
fn recent_place(wanted: u32, index: u32, table: u32, head: u32, row: u32) -> u32 { return table * BLOCK + wanted % BLOCK; }
fn key_appended(entry: u32, index: u32, table: u32, head: u32, row: u32, lane: u32) {
  if ((index + 1u) % BLOCK == 0u) { k_settle(entry, index, table, head, row, lane); }
}
