// Logits as the model gave them, for batches in which no row has a penalty or a bias (the other file: logit_adjusted.wgsl).
fn open_row(row: u32, slot: u32) {}
fn logit(raw: f32, token: u32) -> f32 { return raw; }
fn count_chosen(token: u32) {}
