// How often outliers were kept: [0] how many in all, then a bit for every column that had one.
@group(0) @binding(6) var<storage, read_write> counts: array<atomic<u32>>; // [1 + ceil(K / 32)]

fn count_outliers(count: u32) { atomicAdd(&counts[0], count); }
fn count_column(k: u32) { atomicOr(&counts[1u + k / 32u], 1u << (k % 32u)); }
