// Two matrices side by side, the second from column COLUMN1 on, with one scale each per row: the largest magnitude, which stands for code 127.
@group(0) @binding(7) var<storage, read> scales: array<f32>; // [rows, 2]

const SCALED = true;
const ROW_SCALED = false;
fn unit_scale(row: u32, unit: u32) -> f32 { return scales[row * 2u + select(0u, 1u, unit * UNIT8 * 8u >= COLUMN1)] / 127.0; }
fn row_scale(row: u32) -> f32 { return 1.0; }
fn weights_begin(lane: u32) {}
