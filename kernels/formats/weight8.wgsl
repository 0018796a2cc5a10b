// What every weight format gives a kernel. A row of W has K weights, in units of UNIT8 times eight that one load brings:
// `raw_weights(row, unit)` loads a unit, `weights8(raw, i)` makes numbers of its i-th eight. Where the format is SCALED they are still to
// be multiplied by `unit_scale(row, unit)`, which a sum over the unit needs only once, and where it is ROW_SCALED by `row_scale(row)`, which
// a sum over the row needs only once; SCALE_UNITS units from a multiple of it on share a scale. A kernel first calls `weights_begin(lane)`, and all lanes of a subgroup call `weights8` together.
struct Weights8 { lo: vec4f, hi: vec4f }

// Weights 8·k8 … 8·k8+7 of row `row` as they are, for kernels that keep them before they use them.
fn weight8(row: u32, k8: u32) -> Weights8 {
  let w = weights8(raw_weights(row, k8 / UNIT8), k8 % UNIT8);
  if (!SCALED && !ROW_SCALED) { return w; }
  let scale = unit_scale(row, k8 / UNIT8) * row_scale(row);
  return Weights8(w.lo * scale, w.hi * scale);
}
