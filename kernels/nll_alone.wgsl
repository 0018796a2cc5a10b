// Slot `compare` of nll.wgsl: there is no other model.
fn compare(row: Row, first: u32, wanted: u32, at: u32, local: u32) { }
