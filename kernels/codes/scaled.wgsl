// From whole numbers back to real ones. Rows of activations and of W each have a magnitude per section, which stands for code 127: columns
// before COLUMN1 are section 0, and where two matrices stand side by side (SECTIONS 2) the others are section 1.
@group(0) @binding(4) var<storage, read> magnitudes: array<vec4u>; // [M, VERSIONS]: bits of an f32 per section; how many outliers; 0
@group(0) @binding(7) var<storage, read> scales: array<f32>; // [rows, SECTIONS]

const ONE_OF_EACH = 1.0 / 16129.0; // 127²

// Where the input of output n in row m stands: outputs from SPLIT on may read another version of it.
fn source_of(m: u32, n: u32) -> u32 { return m * VERSIONS + select(0u, VERSIONS - 1u, n >= SPLIT); }

// 0, which no compiler knows: a bound with it added looks open, and its loop is left as it is. Unrolled, a short row or the stores of many
// outputs would take a software adapter seconds to compile. `source`: a row of the step.
fn open_bound(source: u32) -> u32 { return magnitudes[source].w; }

// First eight columns of a section, and the first that are not in it: left open in short rows, since long ones are not unrolled.
fn section_begin(section: u32) -> u32 { return section * (COLUMN1 / 8u); }
fn section_end(section: u32, open: u32) -> u32 {
  return select(COLUMN1, K, section + 1u == SECTIONS) / 8u + select(0u, open, K < 512u || SECTIONS > 1u);
}

// What a section's sum of products of codes stands for.
fn scaled(sum: i32, source: u32, row: u32, section: u32) -> f32 {
  return f32(sum) * (magnitude_of(source, section) * step_of(row, section));
}

fn magnitude_of(source: u32, section: u32) -> f32 { return bitcast<f32>(magnitudes[source][section]); }
fn step_of(row: u32, section: u32) -> f32 { return scales[row * SECTIONS + section] * ONE_OF_EACH; }
fn step4(rows: vec4u, section: u32) -> vec4f {
  return vec4f(step_of(rows.x, section), step_of(rows.y, section), step_of(rows.z, section), step_of(rows.w, section));
}
