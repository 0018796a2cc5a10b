// The pools (pools_read.wgsl), for kernels that append.
struct Dims8 { lo: vec4f, hi: vec4f }
@group(0) @binding(3) var<storage, read_write> k_pool: array<k_word>;
@group(0) @binding(4) var<storage, read_write> v_pool: array<v_word>;
