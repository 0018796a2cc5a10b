fn head_weight(d: u32, is_key: bool) -> f32 { return 1.0; }
