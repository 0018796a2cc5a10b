// Codes of W where a row, or a matrix beside another, is a multiple of eight but not of sixteen.
@group(0) @binding(2) var<storage, read> weight: array<vec2u>; // [rows, K / 8]

// Sixteen codes of a row from its column 8·eight on; past the end of a row the last eight come twice.
fn codes16(row: u32, eight: u32) -> vec4u {
  let at = row * (K / 8u);
  return vec4u(weight[at + eight], weight[at + min(eight + 1u, K / 8u - 1u)]);
}

// The four codes among which that of column k is.
fn word_of(row: u32, k: u32) -> u32 { return weight[(row * K + k) / 8u][k / 4u % 2u]; }
