@group(0) @binding(5) var<storage, read> weight_gain: array<f32>; // [N]: W g

fn weight_gain_of(n: u32) -> f32 { return weight_gain[n]; }
