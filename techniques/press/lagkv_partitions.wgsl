// How many partitions of LAG entries behind SINKS are measured by a next one, with n entries in all: all whole ones but the last.
fn measured(n: u32) -> u32 { return max((n - min(n, SINKS)) / LAG, 1u) - 1u; }
