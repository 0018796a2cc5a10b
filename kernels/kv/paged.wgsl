// Where an entry of a paged cache lives: every (sequence, layer, KV head) has a table of blocks of BLOCK entries and a length.
@group(0) @binding(6) var<storage, read> tables: array<u32>; // [sequences, LAYERS, KV_HEADS, TABLE]
@group(0) @binding(7) var<storage, read> lengths: array<u32>; // [sequences, LAYERS, KV_HEADS], before this step
@group(0) @binding(8) var<storage, read> layer: u32; // not a constant, so that all layers share one pipeline

fn table_of(sequence: u32, head: u32) -> u32 { return (sequence * LAYERS + layer) * KV_HEADS + head; }

// Flat entry (block · BLOCK + offset) of the `index`-th entry of a table.
fn kv_entry(table: u32, index: u32) -> u32 { return tables[table * TABLE + index / BLOCK] * BLOCK + index % BLOCK; }
