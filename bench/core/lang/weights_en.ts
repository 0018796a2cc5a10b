/** The words of the experiments on number formats of the weights, in English; weights_zh.ts has the same keys. */

import type { WeightArm } from "../arms.ts";
import type { PerplexityProtocol } from "../../../models/options.ts";

const PLAIN: Readonly<Partial<Record<WeightArm, string>>> = { again: "again" };
/** Names of arms; a format is its own name in every language. */
export const FORMAT_NAMES = {
  f32: "f32", f16: "f16", bf16: "bf16", int8: "int8", "llm.int8": "llm.int8", nf4: "nf4", "nf4-double": "nf4-double", fp4: "fp4", "fp4-double": "fp4-double",
} as const;

export const weightsEn = {
  arms: { basic: "basic", again: "again (A/A)", quantized: "quantized", ...FORMAT_NAMES } satisfies Record<WeightArm, string>,
  label: (name: string, format: string) => (name === format ? format : name === "again" ? `${format} ${PLAIN.again}` : `${name} (${format})`),
  experiment: (name: string) => `Quantization experiment: ${name}`,
  comparison: (level: string, name: string) => `Quantization: what it saves and what it costs (${level}, ${name})`,
  precision: (level: string, name: string) => `Precision: number formats of the weights (${level}, ${name})`,
  titles: {
    basic: (format: string) => `Basic: weights as ${format}`, again: (format: string) => `Control: the first arm again, weights as ${format}`,
    quantized: (format: string) => `Optimized: weights quantized to ${format}`, format: (format: string) => `Weights as ${format}`,
  },
  files: {
    basic: "basic_report", quantized: "optimized_report", comparison: (level: string, name: string) => `comparison_experiment_${level}_${name}`,
    precision: (level: string, name: string) => `precision_experiment_${level}_${name}`,
  },
  heads: { weights: "Weights", quality: "Quality", table: "Formats and figures", chart: "Chart" },
  and: ", ",
  heldAs: (format: string, matrices: number, bytes: string) => `${matrices} ${matrices === 1 ? "matrix" : "matrices"} as ${format} (${bytes})`,
  holds: (arm: string, held: string) => `${arm} holds ${held}`,
  notHeld: (arm: string, format: string) => `${arm} holds no matrix as ${format}: the technique did not act`,
  savesNothing: (arm: string, bytes: string, basic: string) => `the weights of ${arm} take ${bytes}, those of the basic arm ${basic}: quantization saved nothing`,
  outliers: (arm: string, columns: number, elements: number) =>
    `${arm}: ${elements} activations reached the threshold and were multiplied at full precision with their columns, of which there are ${columns}`,
  noOutliers: (arm: string) => `${arm}: no activation reached the threshold, so every product was in whole numbers`,
  controlTexts: (same: number, of: number) => `the two equal arms wrote the same ${same} of ${of} texts`,
  controlDiffers: (differing: number, of: number) => `two equal arms wrote ${differing} of ${of} greedy texts differently, so nothing here can be laid to the weights`,
  textsInTurn: "texts were not compared, since the arms did not run together",
  textsNotCompared: "the two equal arms did not both finish an iteration, so their texts were not compared",
  lossy: "Other formats may write other texts, so texts are not compared between them; every request writes the same number of tokens in every arm.",
  together: "All arms were loaded at the same time and took turns within every iteration.",
  inTurn: "Memory did not hold all arms, or the config said so: they were loaded one after the other, and each ran all its iterations before the next. " +
    "What the machine did meanwhile favours some of them; the two equal arms show how much.",
  againstFirst: (arm: string, first: string) => `${arm} against ${first}:`,
  takes: (arm: string, bytes: string, share: string, first: string) => `weights of ${arm}: ${bytes}, ${share} of ${first}`,
  ratio: (arm: string, other: string, ratio: string, verdict: string) => `perplexity of ${arm} over that of ${other}: ${ratio}, ${verdict}`,
  ratioIs: { same: "no difference beyond two standard errors", higher: "higher, worse", lower: "lower, better" },

  tableColumns: ["weights as", "bytes per weight", "weights", "peak memory", "perplexity", "KLD against f32", "same top token", "decode speed", "prefill speed"],
  tableIs: (first: string) => `Bytes per weight: of the matrices that are held in the format, scales included; embedding, head and norms may stay in floats and are in the next column. ` +
    `Perplexity, KLD and the share of equal top tokens stand with one standard error, KLD in 10⁻³ nats per token. Speeds are multiples of ${first} (TPOT and TTFT, medians); ≈ marks what is no measurable difference.`,
  rows: {
    held: (format: string) => `matrices as ${format}`, weightsOf: (matrices: number, weights: string, bytes: string, each: string) => `${matrices}: ${weights} weights, ${bytes}, ${each} bytes each`,
    ledger: "weights in the ledger", expected: "the same by arithmetic", difference: "difference", outliers: "activations kept at full precision",
    outlierColumns: (columns: number, elements: number) => `${elements} in ${columns} columns`,
  },
  notKnown: "not known from the config",
  quality: {
    perplexity: "perplexity", nll: "mean negative log-likelihood, nats", scored: "tokens scored", windows: "windows", kld: (other: string) => `KLD against ${other}, nats`,
    kldSpread: (other: string) => `KLD against ${other}: median, p99, largest`, top: (other: string) => `same top token as ${other}`, ratio: (other: string) => `perplexity over that of ${other}`,
    isItself: "itself", missing: { noRoom: "no memory for the other model beside it", notMeasured: "not measured" },
    none: "No perplexity was measured: it was not asked for.", random: "No perplexity was measured: the weights are random.",
  },
  corpus: (name: string, context: number, protocol: string, sha: string) => `Text: ${name} (SHA-256 \`${sha}…\`), windows of ${context} tokens. ${protocol}`,
  protocols: {
    strided: (stride: number) => `Protocol \`hf-strided\`: a window every ${stride} tokens, and of each only the tokens that no window before it scored.`,
    "llama.cpp": () => "Protocol `llama.cpp`: windows that do not overlap, of which only the second half is scored.",
    "lm-eval-rolling": () => "Protocol `lm-eval-rolling`: windows that do not overlap, every token scored, the first of each after the last of the one before.",
    decode: () => "Protocol `decode`: token by token through the cache, as in generation.",
    "prefill-continue": () => "Protocol `prefill-continue`: windows that do not overlap, of which only what follows the context is scored, token by token.",
  } satisfies Record<PerplexityProtocol, (stride: number) => string>,
  qualityIs: "Perplexity is exp of the mean over all scored tokens, not a mean over windows. KLD is KL(other ‖ this) of the next-token distributions at the same places, averaged over tokens. " +
    "The error of a ratio is that of the paired difference, token by token, which is far smaller than that of either perplexity. Of the standard error over tokens (llama.cpp's) and that over windows the larger one is given. All of it went through the kernels and the cache that were timed.",
  chartAt: (file: string) => `![Throughput, TPOT, TTFT, perplexity, memory and the Pareto picture of memory against perplexity](${file})`,
  noChart: (reason: string) => `No chart was drawn: ${reason}.`,
  weightsShort: "weights", ppl: "perplexity", kldShort: "KLD against f32",
  approx: "≈ marks what is no measurable difference.",
  fileNote: (file: string) => `Every request and every arm stands in \`${file}\`.`,
};
