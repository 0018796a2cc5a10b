// The pools, for kernels that only read them. Entries are those of all layers, heads and sequences; how many elements one takes, and what
// an element is, the number format says: its files say kv_, and are taken once as k_ for keys and once as v_ for values.
struct Dims8 { lo: vec4f, hi: vec4f }
@group(0) @binding(3) var<storage, read> k_pool: array<k_word>;
@group(0) @binding(4) var<storage, read> v_pool: array<v_word>;
