@group(0) @binding(9) var<storage, read> batch: array<u32>;
