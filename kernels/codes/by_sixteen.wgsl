// Codes of W, sixteen to a load: every row, and every matrix beside another, is a multiple of sixteen.
@group(0) @binding(2) var<storage, read> weight: array<vec4u>; // [rows, K / 16]

// Sixteen codes of a row from its column 8·eight on.
fn codes16(row: u32, eight: u32) -> vec4u { return weight[row * (K / 16u) + eight / 2u]; }

// The four codes among which that of column k is.
fn word_of(row: u32, k: u32) -> u32 { return weight[(row * K + k) / 16u][k / 4u % 4u]; }
