/**
 * From the user's options to sizes: what is taken where nothing was said, and every buffer of a runner with its shape. The loader makes
 * what stands here and the plan (footprint.ts) counts it, so the two cannot part. No GPU in here.
 */

import type { Dtype } from "../engine/dtype.ts";
import { ContextLengthError, UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { Category } from "../engine/memory.ts";
import type { Shape } from "../engine/shape.ts";
import { byteLength } from "../engine/tensor.ts";
import { MAX_DRAFTED } from "../kernels/accept.ts";
import { decodeSplits, partialsShape } from "../kernels/attention.ts";
import { batchWords } from "../kernels/batch.ts";
import { outlierCountsShape, rowsScratchShapes } from "../kernels/int8.ts";
import { kiviPoolShape, kvBlockWords, kvEncodings, poolShape, recentKeys, type KvEncoding, type KvEntryEncoding } from "../kernels/kv_formats.ts";
import { LOGPROB_WORDS } from "../kernels/logprobs.ts";
import { SAMPLING_WORDS } from "../kernels/sample.ts";
import type { ModelConfig } from "./config.ts";
import type { KvChoice, KvLayout, LoadOptions } from "./options.ts";
import { parseQuantizationConfig } from "./quantization_config.ts";
import { ropeShape } from "./rope.ts";
import type { ModelShape } from "./step.ts";
import type { PlanOptions } from "./weight_plans.ts";

const DEFAULT_MAX_MODEL_LEN = 4096;
const DEFAULT_MAX_SEQUENCES = 16;
const DEFAULT_PREFILL_CHUNK = 256;
const DEFAULT_LAYOUT: KvLayout = { name: "paged", blockSize: 16 };
/** Sequences of full length that a paged cache has room for when nobody says how large it shall be. */
const DEFAULT_FULL_SEQUENCES = 8;

/** Bytes of keys and values together when nobody says, unless a single sequence of full length takes more. */
const DEFAULT_KV_MEMORY = 1 << 30;

/** Decode steps that may be in flight, which is also how many steps back a sampled token is kept on the GPU. */
export const MAX_IN_FLIGHT = 8;

/** Every size and format of a loaded model that the user may choose. */
export interface LoadSizes {
  readonly weights: PlanOptions;
  readonly maxModelLen: number;
  readonly maxSequences: number;
  readonly prefillChunk: number;
  readonly runner: RunnerSizes;
  readonly cache: KvCacheOptions;
  /** What a user should know of how their options were taken. */
  readonly notes: readonly string[];
}

export interface KvCacheOptions {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly format: KvChoice;
  readonly layout: KvLayout;
  /** Sequences that may hold cache at the same time. */
  readonly slots: number;
  /** Longest sequence in tokens. */
  readonly maxModelLen: number;
  /** Bytes for keys and values together; null: enough for `sequences` of maxModelLen each, at most 1 GiB. */
  readonly memory: number | null;
  readonly sequences: number;
  /** Rows of one pass at most. */
  readonly rows: number;
}

export interface RunnerSizes {
  /** Rows of one pass, and rows of it that are sampled, at most. */
  readonly rows: number;
  readonly samples: number;
  readonly maxModelLen: number;
  /** Some products are made by LLM.int8(). */
  readonly int8: boolean;
  /** Decode steps whose samples are kept on the GPU; MAX_IN_FLIGHT unless more are asked for. */
  readonly ring?: number;
}

/** Throws ContextLengthError when the model was not made for sequences that long. `name`: the model in messages. */
export function sizesOf(config: ModelConfig, options: LoadOptions, name: string): LoadSizes {
  const maxModelLen = options.maxModelLen ?? Math.min(config.maxPositions, DEFAULT_MAX_MODEL_LEN);
  if (maxModelLen > config.maxPositions) {
    throw new ContextLengthError(`maxModelLen is ${maxModelLen}, but ${name} was made for at most ${config.maxPositions} positions`);
  }
  const maxSequences = options.maxSequences ?? DEFAULT_MAX_SEQUENCES;
  const prefillChunk = options.prefillChunk ?? DEFAULT_PREFILL_CHUNK;
  const layout = options.kvLayout ?? DEFAULT_LAYOUT;
  const { layers, kvHeads, headDim } = config;
  const format = options.kv ?? "f16";
  checkKeys(kvEncodings(format, headDim).k, layout);
  // A step may read one prompt token beside every decoding sequence, however small the chunks are.
  const rows = Math.max(prefillChunk, maxSequences + 1);
  const { notes, ...weights } = weightChoice(config, options);
  return {
    maxModelLen, maxSequences, prefillChunk, weights, notes,
    runner: { rows, samples: maxSequences, maxModelLen, int8: usesInt8(config, weights.format) },
    cache: {
      layers, kvHeads, headDim, format, layout, rows, slots: maxSequences, maxModelLen, memory: options.kvMemory ?? null,
      sequences: layout.name === "contiguous" ? maxSequences : Math.min(DEFAULT_FULL_SEQUENCES, maxSequences),
    },
  };
}

/** With room to verify the usual k of every sequence at once; where requests ask for more, sequences are verified in turn. */
export function withVerification(sizes: LoadSizes, k: number | "adaptive"): LoadSizes {
  const samples = Math.max(MAX_DRAFTED + 1, sizes.maxSequences * ((k === "adaptive" ? ADAPTIVE_ROWS : k) + 1));
  const rows = Math.max(sizes.runner.rows, samples);
  return { ...sizes, runner: { ...sizes.runner, rows, samples }, cache: { ...sizes.cache, rows } };
}

/** Tokens for which an adaptive draft has room in every sequence of a full batch. */
const ADAPTIVE_ROWS = 5;

/** Throws UsageError where keys are quantized by blocks and there are none, or none that words hold whole. */
function checkKeys({ format }: KvEncoding, layout: KvLayout): void {
  if (format !== "kivi4") return;
  if (layout.name === "contiguous") throw new UsageError('kv: kivi4 quantizes keys by blocks of tokens, but a contiguous cache has none: take kvLayout { name: "paged", blockSize: 32 }');
  if (layout.blockSize % 8 !== 0) throw new UsageError(`kv: kivi4 takes blocks of a multiple of 8 tokens, but kvLayout has blockSize ${layout.blockSize}`);
}

function weightChoice(config: ModelConfig, { weights, quantizationConfig }: LoadOptions): PlanOptions & { readonly notes: readonly string[] } {
  const defaultFormat = config.dtype ?? "f16";
  if (quantizationConfig === undefined) return { format: weights ?? "auto", defaultFormat, threshold: config.quantization?.threshold, notes: [] };
  if (weights !== undefined) throw new UsageError(`weights "${weights}" and quantizationConfig both say what to hold the weights in: leave one of them out`);
  const { weights: format, ...choice } = parseQuantizationConfig(quantizationConfig, "quantizationConfig");
  return { format, defaultFormat, ...choice };
}

/** Whether products are made by LLM.int8(), which needs room for quantized activations. */
function usesInt8({ quantization }: ModelConfig, format: PlanOptions["format"]): boolean {
  return format === "llm.int8" || (format === "auto" && quantization?.stored.method === "bitsandbytes" && quantization.stored.bits === 8);
}

/** A buffer before it is made. */
export interface BufferShape { readonly category: Category; readonly label: string; readonly shape: Shape; readonly dtype: Dtype }

export interface CachePlan {
  readonly encodings: { readonly k: KvEncoding; readonly v: KvEntryEncoding };
  /** Blocks of the pool and tokens of a block; of a contiguous cache, entries, each a block of one. */
  readonly blocks: number;
  readonly blockSize: number;
  /** Words of one block table. */
  readonly tableBlocks: number;
  /** Bytes of a block, its keys and its values, and blocks that a sequence of maxModelLen takes. */
  readonly blockBytes: number;
  readonly perSequence: number;
  /** Bytes of keys that are not in blocks yet: what kivi4 holds beside them, whatever their number. */
  readonly recentBytes: number;
  /** Rows of a step for which the pool of keys has room. */
  readonly recentRows: number;
  /** The most blocks that pools on this adapter can have. */
  readonly bindable: number;
  readonly buffers: Readonly<Record<"layerNumbers" | "keys" | "values" | "tables" | "lengths", BufferShape>>;
  /** Every reason why such a cache cannot be made, and what to do. */
  readonly problems: readonly string[];
}

/** What a KV cache takes on an adapter that binds at most `maxBinding` bytes. Throws UsageError for a format that does not fit headDim or layout. */
export function planCache(maxBinding: number, options: KvCacheOptions): CachePlan {
  const { layers, kvHeads, headDim, format, layout, slots, maxModelLen } = options;
  const encodings = kvEncodings(format, headDim);
  const { k, v } = encodings;
  checkKeys(k, layout);
  const blockSize = layout.name === "paged" ? layout.blockSize : 1;
  const tableBlocks = layout.name === "paged" ? Math.ceil(maxModelLen / blockSize) : 1;
  const recentRows = Math.ceil(options.rows / 8) * 8; // as runnerBuffers has them
  const recent = k.format === "kivi4" ? recentKeys({ slots, layers, kvHeads, blockSize, rows: recentRows }).all : 0;
  const { problem, ...counts } = countBlocks(maxBinding, options, encodings, blockSize, 2 * headDim * recent);
  const words = (label: string, shape: Shape): BufferShape => ({ category: "kv", label, shape, dtype: "u32" });
  const pool = (label: string, encoding: KvEncoding): BufferShape => ({
    category: "kv", label,
    ...(encoding.format === "kivi4" ? kiviPoolShape(headDim, recent, counts.blocks, blockSize) : poolShape(encoding, counts.blocks * blockSize)),
  });
  const buffers = {
    layerNumbers: words("layer numbers", [layers, 64]), keys: pool("keys", k), values: pool("values", v),
    tables: words("block tables", [slots, layers, kvHeads, tableBlocks]), lengths: words("cache lengths", [slots, layers, kvHeads]),
  };
  const problems = [problem, tooLarge(buffers.tables, maxBinding), tooLarge(buffers.lengths, maxBinding)].filter((found) => found !== null);
  return { ...counts, recentRows, encodings, blockSize, tableBlocks, problems, buffers };
}

function countBlocks(
  maxBinding: number, { layers, kvHeads, layout, maxModelLen, memory, sequences }: KvCacheOptions, { k, v }: CachePlan["encodings"], blockSize: number,
  recentBytes: number,
): Pick<CachePlan, "blocks" | "blockBytes" | "perSequence" | "bindable" | "recentBytes"> & { readonly problem: string | null } {
  const keyBytes = 4 * kvBlockWords(k, blockSize), valueBytes = 4 * kvBlockWords(v, blockSize);
  const blockBytes = keyBytes + valueBytes;
  const perSequence = layers * kvHeads * Math.ceil(maxModelLen / blockSize);
  const bindable = Math.max(0, Math.min(Math.floor((maxBinding - recentBytes) / keyBytes), Math.floor(maxBinding / valueBytes)));
  const wanted = memory === null
    ? Math.min(sequences * perSequence, Math.max(perSequence, Math.floor((DEFAULT_KV_MEMORY - recentBytes) / blockBytes)))
    : Math.max(0, Math.floor((memory - recentBytes) / blockBytes));
  const blocks = memory === null ? Math.min(wanted, bindable) : wanted;
  const least = layout.name === "contiguous" && layout.reserve === "max" ? perSequence : layers * kvHeads;
  let problem: string | null = null;
  if (blocks < least) {
    const unit = least === perSequence ? `a stretch of ${maxModelLen} tokens` : blockSize === 1 ? "one token" : `one block of ${blockSize} tokens`;
    problem = `the KV cache needs at least ${recentBytes + least * blockBytes} bytes (${unit} for each of ${layers} layers and ` +
      `${kvHeads} KV heads${recentBytes > 0 ? `, and ${recentBytes} for keys that are not quantized yet` : ""}), but ${memory ?? maxBinding} are allowed: raise kvMemory${least === perSequence ? " or lower maxModelLen" : ""}`;
  } else if (blocks > bindable) {
    problem = `a KV cache of ${memory} bytes does not fit this adapter, which binds at most ${maxBinding} bytes each of keys and values: ` +
      `lower kvMemory to ${recentBytes + bindable * blockBytes} or less`;
  }
  return { blocks: Math.min(blocks, layout.name === "contiguous" ? sequences * perSequence : blocks), blockBytes, recentBytes, perSequence, bindable, problem };
}

/** What grows with the rows of a pass and must be seen whole by one kernel. */
interface WidestRows { readonly rows: number; readonly columns: number; readonly what: string; readonly knobs: string }

/** Every buffer of a runner. Products work on whole tiles, so rows come in multiples of 8. */
export function runnerBuffers(config: ModelConfig, shape: ModelShape, family: Gpu["family"], sizes: RunnerSizes) {
  const { qkv, attendedColumns, innerColumns } = shape;
  const { hiddenSize, heads, headDim, vocabSize } = config;
  const rows = Math.ceil(sizes.rows / 8) * 8, samples = Math.ceil(sizes.samples / 8) * 8;
  const activation = (label: string, shape: Shape, dtype: Dtype = "f32"): BufferShape => ({ category: "activations", label, shape, dtype });
  const { count, keys } = decodeSplits({ family }, config, sizes.maxModelLen);
  const columns = Math.max(hiddenSize, qkv.width, heads * headDim, attendedColumns, innerColumns);
  const widest: readonly WidestRows[] = [
    { rows, columns, what: "activations", knobs: "prefillChunk and maxSequences" },
    { rows: samples, columns: vocabSize, what: "logits", knobs: "maxSequences" },
  ];
  return {
    rows, samples, widest,
    activations: {
      x: activation("x", [rows, hiddenSize]), normed: activation("normed", [rows, hiddenSize]), qkv: activation("qkv", [rows, qkv.width]),
      q: activation("q", [rows, heads * headDim]), attended: activation("attended", [rows, attendedColumns]), inner: activation("inner", [rows, innerColumns]),
    },
    /** Activations in codes, and what of them was not; null where no product needs them. */
    int8: sizes.int8 ? int8Buffers(activation, rows, columns) : null,
    /** How decoding splits long rows; null when no sequence gets so long. */
    splits: count === 1 ? null : { count, keys, partials: activation("split attention", partialsShape(config, samples, count)) },
    batch: activation("batch", [batchWords(rows)], "u32"),
    cosSin: activation("cos sin", ropeShape(config, sizes.maxModelLen)),
    logits: { category: "logits", label: "logits", shape: [samples, vocabSize], dtype: "f32" } satisfies BufferShape,
    sampling: activation("sampling", [samples, SAMPLING_WORDS], "u32"),
    sampled: activation("sampled", [sizes.ring ?? MAX_IN_FLIGHT, rows], "u32"),
    /** One for each step in flight. */
    staging: Array.from({ length: MAX_IN_FLIGHT }, (_, i): BufferShape => ({ category: "staging", label: `sampled ${i}`, shape: [samples], dtype: "u32" })),
  };
}

function int8Buffers(activation: (label: string, shape: Shape, dtype: Dtype) => BufferShape, rows: number, columns: number) {
  const { codes, magnitudes, outliers } = rowsScratchShapes(rows, columns, 2);
  return {
    codes: activation("codes", codes, "u32"), magnitudes: activation("magnitudes", magnitudes, "u32"), outliers: activation("outliers", outliers, "u32"),
    counts: activation("outlier counts", outlierCountsShape(columns), "u32"),
  };
}

export type RunnerBuffers = ReturnType<typeof runnerBuffers>;

/** What a runner makes when penalties or biases, or log-probabilities, are first asked for. */
export function onDemandBuffers({ vocabSize }: ModelConfig, slots: number, rows: number, samples: number) {
  const logits = (label: string, shape: Shape, dtype: Dtype): BufferShape => ({ category: "logits", label, shape, dtype });
  return {
    adjust: { counts: logits("token counts", [slots, vocabSize], "u32"), bias: logits("logit biases", [slots, vocabSize], "f32") },
    logprobs: {
      out: logits("log-probabilities", [MAX_IN_FLIGHT, rows, LOGPROB_WORDS], "u32"),
      staging: Array.from({ length: MAX_IN_FLIGHT }, (_, i): BufferShape => (
        { category: "staging", label: `sampled ${i}`, shape: [samples, 1 + LOGPROB_WORDS], dtype: "u32" }
      )),
    },
  };
}

/** Every reason why this adapter cannot run such a runner, and what to do. */
export function runnerProblems({ widest, int8, splits, cosSin, sampled, batch, sampling }: RunnerBuffers, maxBinding: number): string[] {
  const whole = [...(int8 === null ? [] : Object.values(int8)), ...(splits === null ? [] : [splits.partials]), cosSin, sampled, batch, sampling];
  const problems = [...widest.map((rows) => tooWide(rows, maxBinding)), ...whole.map((buffer) => tooLarge(buffer, maxBinding))];
  return problems.filter((problem) => problem !== null);
}

/** Null when f32 [rows, columns] fits a binding. */
function tooWide({ rows, columns, what, knobs }: WidestRows, maxBinding: number): string | null {
  if (rows * columns * 4 <= maxBinding) return null;
  const most = Math.floor(maxBinding / (4 * columns) / 8) * 8;
  return `${rows} rows of ${what} take ${rows * columns * 4} bytes, but this adapter binds at most ${maxBinding}: lower ${knobs} to ${most} or less`;
}

/** What makes a buffer smaller that a kernel sees as a whole. */
const KNOBS: Readonly<Record<string, string>> = {
  "block tables": "maxSequences or maxModelLen", "cache lengths": "maxSequences", "cos sin": "maxModelLen",
  "split attention": "maxSequences or maxModelLen",
};

/** Null when a buffer fits a binding. */
function tooLarge(buffer: BufferShape, maxBinding: number): string | null {
  const bytes = byteLength(buffer);
  if (bytes <= maxBinding) return null;
  const knobs = KNOBS[buffer.label] ?? "prefillChunk and maxSequences";
  return `the buffer of ${buffer.label} takes ${bytes} bytes, but this adapter binds at most ${maxBinding}: lower ${knobs}`;
}
