// Logits with the penalties and the bias of the row's sequence, in this order:
//   repetition  tokens of prompt or text: divided by it where positive, else multiplied (CTRL, Keskar et al. 2019, as vLLM and transformers)
//   frequency   − penalty · how often the text holds the token   (both: OpenAI's API reference, as vLLM; of the text, not the prompt)
//   presence    − penalty where the text holds it at all
//   bias        + bias, so it means the same whatever the repetition penalty is (vLLM and transformers add theirs before that one)
// A bias that is not finite (−∞) forbids the token: it gets LOWEST, which nothing chooses. An infinite bias is never computed with, as a
// shader compiler may take it that there are none; every other token stays above LOWEST, however large its penalty. The kernel defines
// `also_counted`: how often a token stands in text that `counts` does not know yet.
@group(0) @binding(3) var<storage, read_write> counts: array<u32>; // [slots, VOCAB]: times the text holds the token; IN_PROMPT beside it
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [slots, VOCAB]

const IN_PROMPT = 0x80000000u;
const ABOVE_LOWEST = -3.4028232635611926e38;
var<private> slot_start: u32;
var<private> repetition: f32;
var<private> presence: f32;
var<private> frequency: f32;

fn open_row(row: u32, slot: u32) {
  slot_start = slot * VOCAB;
  repetition = sampling[row].repetition;
  presence = sampling[row].presence;
  frequency = sampling[row].frequency;
}

fn logit(raw: f32, token: u32) -> f32 {
  let offset = bias[slot_start + token];
  if ((bitcast<u32>(offset) & 0x7f800000u) == 0x7f800000u) { return LOWEST; }
  var value = raw;
  let count = counts[slot_start + token] + also_counted(token);
  if (count != 0u) {
    let times = count & ~IN_PROMPT;
    // A quotient by 1 need not be exact on a GPU, and a row without penalties must choose as the plain sampler does.
    if (repetition != 1.0) { value = select(value * repetition, value / repetition, value > 0.0); }
    value -= frequency * f32(times);
    if (times > 0u) { value -= presence; }
  }
  return clamp(value + offset, ABOVE_LOWEST, -LOWEST);
}

// Called by one lane once all lanes have read what they chose from: the next step finds the token counted, whether or not the host knows it.
fn count_chosen(token: u32) { counts[slot_start + token] += 1u; }
