// Keys that lie where the table says, from the moment they are appended.
fn key_place(entry: u32, wanted: u32, index: u32, table: u32, head: u32, row: u32) -> u32 { return entry; }
fn own_place(entry: u32, index: u32, table: u32, head: u32, row: u32) -> u32 { return entry; }
fn key_appended(entry: u32, index: u32, table: u32, head: u32, row: u32, lane: u32) {}
