fn count_outliers(count: u32) {}
fn count_column(k: u32) {}
