// Where an entry of a contiguous cache lives: every (sequence, layer, KV head) has one stretch, and its table is the stretch's first entry.
@group(0) @binding(6) var<storage, read> tables: array<u32>; // [sequences, LAYERS, KV_HEADS]
@group(0) @binding(7) var<storage, read> lengths: array<u32>; // [sequences, LAYERS, KV_HEADS], before this step
@group(0) @binding(8) var<storage, read> layer: u32; // not a constant, so that all layers share one pipeline

fn table_of(sequence: u32, head: u32) -> u32 { return (sequence * LAYERS + layer) * KV_HEADS + head; }

fn kv_entry(table: u32, index: u32) -> u32 { return tables[table] + index; }

// That of first + lane, or of `last` when this is past it.
fn kv_entry_of_lane(table: u32, first: u32, lane: u32, last: u32) -> u32 { return kv_entry(table, min(first + lane, last)); }
