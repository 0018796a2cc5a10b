// Where an entry of a paged cache lives: every (sequence, layer, KV head) has a table of blocks of BLOCK entries and a length.
@group(0) @binding(6) var<storage, read> tables: array<u32>; // [sequences, LAYERS, KV_HEADS, TABLE]
@group(0) @binding(7) var<storage, read> lengths: array<u32>; // [sequences, LAYERS, KV_HEADS], before this step
@group(0) @binding(8) var<storage, read> layer: u32; // not a constant, so that all layers share one pipeline

fn table_of(sequence: u32, head: u32) -> u32 { return (sequence * LAYERS + layer) * KV_HEADS + head; }

// Flat entry (block · BLOCK + offset) of the `index`-th entry of a table.
fn kv_entry(table: u32, index: u32) -> u32 { return tables[table * TABLE + index / BLOCK] * BLOCK + index % BLOCK; }

// That of first + lane, or of `last` when this is past it. `first` is a multiple of SUBGROUP: where that divides BLOCK, all lanes are in
// one block, and the table is read once for all.
fn kv_entry_of_lane(table: u32, first: u32, lane: u32, last: u32) -> u32 {
  if (BLOCK % SUBGROUP != 0u) { return kv_entry(table, min(first + lane, last)); }
  let start = min(first, last / SUBGROUP * SUBGROUP);
  return kv_entry(table, start) + min(lane, last - start);
}
