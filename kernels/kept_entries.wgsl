// What a cut keeps of a layer of a sequence, and where it goes: entry order[head][i] of the table becomes entry i of the fresh blocks.
@group(0) @binding(0) var<storage, read> order: array<u32>; // [KV_HEADS, COLUMNS]
@group(0) @binding(1) var<storage, read> cut: array<vec4u>; // [KV_HEADS], how many are kept third
@group(0) @binding(2) var<storage, read> fresh: array<u32>; // [KV_HEADS, TABLE] blocks

fn old_index(head: u32, index: u32) -> u32 { return order[head * COLUMNS + index]; }
fn kept_of(head: u32) -> u32 { return cut[head].z; }
fn fresh_entry(head: u32, index: u32) -> u32 { return fresh[head * TABLE + index / BLOCK] * BLOCK + index % BLOCK; }
