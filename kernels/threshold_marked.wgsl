// Everything above zero, and nothing that equals it.
fn threshold_of(first: u32, end: u32, local: u32) -> vec2u { return vec2u(SIGN, 0u); }
