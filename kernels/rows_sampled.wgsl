// Only the rows whose next token is wanted.
fn source_row(row: u32) -> u32 { return sample_row(row); }
