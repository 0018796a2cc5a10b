// The pool of keys alone (pools_write.wgsl has both).
struct Dims8 { lo: vec4f, hi: vec4f }
@group(0) @binding(3) var<storage, read_write> k_pool: array<k_word>;
