fn pack(v: vec2f) -> u32 { return pack2x16float(v); }
