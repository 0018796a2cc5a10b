const SCALED = false;
const ROW_SCALED = false;
fn unit_scale(row: u32, unit: u32) -> f32 { return 1.0; }
fn row_scale(row: u32) -> f32 { return 1.0; }
fn weights_begin(lane: u32) {}
