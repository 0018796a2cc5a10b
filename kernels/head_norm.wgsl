// Qwen3: queries and keys are RMS-normalised per head, each with its own weight over HEAD_DIM.
@group(0) @binding(5) var<storage, read> head_weights: array<f32>; // [2, HEAD_DIM]: queries, keys

fn head_weight(d: u32, is_key: bool) -> f32 { return head_weights[select(0u, HEAD_DIM, is_key) + d]; }
