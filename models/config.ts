/**
 * config.json of a checkpoint, in today's spelling or the one of published Pythia and Qwen files, normalised once into one frozen record,
 * so that no other file asks which spelling it was or what transformers assumes when a field is absent. Whatever would change the
 * arithmetic and is not understood (RoPE scaling, sliding windows, ways to quantize) is refused, never ignored; all problems of a
 * checkpoint's configuration come in one error. `auto_map` is not looked at: no code of a checkpoint is ever run.
 *
 * Meaning of fields and defaults: configuration_{gpt_neox,qwen2,qwen3}.py and modeling_rope_utils.py of Hugging Face transformers 5.18.
 */
import { dirname, join } from "node:path";
import { ModelFileError } from "../engine/errors.ts";
import { flag, integer, isObject, number, oneOf, readJson, show } from "./config_fields.ts";
import type { Json, Note } from "./config_fields.ts";
import { readCheckpointQuantization, type CheckpointQuantization } from "./quantization_config.ts";

/** config.json of a checkpoint, in one spelling and with every default filled in. */
export interface ModelConfig {
  readonly architecture: Architecture;
  /** Rows of the embedding, often more than the tokenizer has ids. */
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** Not always hiddenSize / heads: Qwen3 states it. */
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly maxPositions: number;
  readonly normEps: number;
  /** `gelu` is the exact one (erf). */
  readonly activation: "gelu" | "gelu_tanh" | "silu";
  /** GPT-NeoX: x + attention(norm1(x)) + mlp(norm2(x)) instead of one after the other. */
  readonly parallelResidual: boolean;
  /** The first dims of a head that rotate; even. */
  readonly rotaryDims: number;
  readonly ropeTheta: number;
  readonly qkvBias: boolean;
  /** A bias on the output projection of attention. (The MLP has biases in every GPT-NeoX and in no Qwen.) */
  readonly outputBias: boolean;
  /** Qwen3: RMS norm of every query and key head before RoPE. */
  readonly qkNorm: boolean;
  /** The embedding is the output head too. */
  readonly tieEmbeddings: boolean;
  /** What the file says the weights are stored in; the weight files decide. */
  readonly dtype: "f32" | "f16" | "bf16" | null;
  /** generation_config.json goes before config.json, for this id and the next. */
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  /** `model_type` of the file, or what its `architectures` imply. */
  readonly modelType: string;
  /** How the weights are stored that are not in floats; null where all are. */
  readonly quantization: CheckpointQuantization | null;
}

export type Architecture = keyof typeof CLASSES;

const CLASSES = { gpt_neox: "GPTNeoXForCausalLM", qwen2: "Qwen2ForCausalLM", qwen3: "Qwen3ForCausalLM" } as const;

/** What an absent field means. RoPE, which has several spellings, has its defaults in readRope; sizes that are not here must be there. */
const COMMON_DEFAULTS: Json = { tie_word_embeddings: false, use_sliding_window: false, max_window_layers: 28, use_mrope: false };
const QWEN_DEFAULTS: Json = {
  ...COMMON_DEFAULTS, max_position_embeddings: 32768, num_key_value_heads: 32, rms_norm_eps: 1e-6, hidden_act: "silu", bos_token_id: null,
  eos_token_id: null,
};
const DEFAULTS: Readonly<Record<Architecture, Json>> = {
  gpt_neox: {
    ...COMMON_DEFAULTS, max_position_embeddings: 2048, layer_norm_eps: 1e-5, hidden_act: "gelu", use_parallel_residual: true,
    attention_bias: true, bos_token_id: 0, eos_token_id: 2,
  },
  qwen2: QWEN_DEFAULTS,
  qwen3: { ...QWEN_DEFAULTS, head_dim: 128, attention_bias: false },
};

const DTYPES = new Map<unknown, ModelConfig["dtype"]>([["float32", "f32"], ["float16", "f16"], ["bfloat16", "bf16"]]);

/** transformers' names of the activations we have; gelu_new, gelu_fast and gelu_pytorch_tanh are one function. */
const NEOX_ACTIVATIONS = {
  gelu: "gelu", gelu_python: "gelu", gelu_new: "gelu_tanh", gelu_fast: "gelu_tanh", gelu_pytorch_tanh: "gelu_tanh",
} as const;
const QWEN_ACTIVATIONS = { silu: "silu", swish: "silu" } as const;

/** Far above every published model; a larger number is a broken file, and is found here before anything is allocated by it. */
const LIMITS = { vocab: 2 ** 24, hidden: 2 ** 16, layers: 1024, heads: 1024, headDim: 512, intermediate: 2 ** 20, positions: 2 ** 24 };

/** Reads config.json and, where there is one, generation_config.json of a checkpoint folder. Throws ModelFileError. */
export async function readConfig(folder: string): Promise<ModelConfig> {
  const file = join(folder, "config.json");
  const json = await readJson(file);
  if (json === undefined) {
    throw new ModelFileError(`${file}: expected the configuration of a Hugging Face checkpoint, found no such file; `
      + "give the folder that holds it");
  }
  return parseConfig(json, file, await readJson(join(folder, "generation_config.json")));
}

/**
 * The record for a parsed config.json. `file` is its name in messages. Throws one ModelFileError with a line
 * `FILE: FIELD: expected …, found …` for every problem.
 */
export function parseConfig(raw: unknown, file: string, generationConfig?: unknown): ModelConfig {
  const problems: string[] = [];
  const noteIn = (name: string): Note => (field, expected, found) => {
    problems.push(`${name}: ${field}: expected ${expected}, found ${show(found)}`);
  };
  const note = noteIn(file);
  const refuse = () => new ModelFileError(problems.join("\n"));
  if (!isObject(raw)) throw new ModelFileError(`${file}: expected a JSON object, found ${show(raw)}`);
  const architecture = readArchitecture(raw, note);
  if (architecture === undefined) throw refuse();
  const json = { ...DEFAULTS[architecture], ...raw };
  const shape = architecture === "gpt_neox" ? readNeox(json, note) : readQwen(json, architecture, note);
  refuseUnsupported(json, shape.layers, note);

  const generationFile = join(dirname(file), "generation_config.json");
  const noteGeneration = noteIn(generationFile);
  if (generationConfig !== undefined && !isObject(generationConfig)) {
    throw new ModelFileError(`${generationFile}: expected a JSON object, found ${show(generationConfig)}`);
  }
  const tokenIds = (field: string): number[] => generationConfig?.[field] != null
    ? readTokenIds(field, generationConfig[field], shape.vocabSize, noteGeneration)
    : readTokenIds(field, json[field], shape.vocabSize, note);

  const config: ModelConfig = {
    architecture,
    ...shape,
    tieEmbeddings: flag(json, "tie_word_embeddings", note),
    dtype: DTYPES.get(oneOf({ dtype: json.dtype, torch_dtype: json.torch_dtype }, note)?.value) ?? null,
    bosTokenId: tokenIds("bos_token_id")[0] ?? null,
    eosTokenIds: Object.freeze(tokenIds("eos_token_id")),
    modelType: architecture,
    quantization: readCheckpointQuantization(raw["quantization_config"], note),
  };
  if (problems.length > 0) throw refuse();
  return Object.freeze(config);
}

type Shape = Omit<ModelConfig, "architecture" | "tieEmbeddings" | "dtype" | "bosTokenId" | "eosTokenIds" | "modelType" | "quantization">;

function readNeox(json: Json, note: Note): Shape {
  const sizes = readSizes(json, note);
  const headDim = readHeadDim(null, sizes, note);
  const bias = flag(json, "attention_bias", note); // governs query_key_value and dense
  return {
    ...sizes,
    kvHeads: sizes.heads,
    headDim,
    normEps: number("layer_norm_eps", json.layer_norm_eps, 1, note),
    activation: readActivation(json, NEOX_ACTIVATIONS, note),
    parallelResidual: flag(json, "use_parallel_residual", note),
    ...readRope(json, headDim, 0.25, note),
    qkvBias: bias,
    outputBias: bias,
    qkNorm: false,
  };
}

function readQwen(json: Json, architecture: "qwen2" | "qwen3", note: Note): Shape {
  const sizes = readSizes(json, note);
  const headDim = readHeadDim(json.head_dim, sizes, note);
  const stated = json.num_key_value_heads;
  const kvHeads = stated === null ? sizes.heads : integer("num_key_value_heads", stated, 1, LIMITS.heads, note);
  if (sizes.heads % kvHeads > 0) {
    note("num_key_value_heads", `a divisor of num_attention_heads (${sizes.heads}); when absent, it is 32`, kvHeads);
  }
  const isQwen3 = architecture === "qwen3";
  const bias = isQwen3 && flag(json, "attention_bias", note);
  return {
    ...sizes,
    kvHeads,
    headDim,
    normEps: number("rms_norm_eps", json.rms_norm_eps, 1, note),
    activation: readActivation(json, QWEN_ACTIVATIONS, note),
    parallelResidual: false,
    ...readRope(json, headDim, 1, note),
    qkvBias: bias || !isQwen3, // Qwen2 has no flag for it
    outputBias: bias,
    qkNorm: isQwen3,
  };
}

function readSizes(json: Json, note: Note) {
  return {
    vocabSize: integer("vocab_size", json.vocab_size, 1, LIMITS.vocab, note),
    hiddenSize: integer("hidden_size", json.hidden_size, 8, LIMITS.hidden, note, 8),
    layers: integer("num_hidden_layers", json.num_hidden_layers, 1, LIMITS.layers, note),
    heads: integer("num_attention_heads", json.num_attention_heads, 1, LIMITS.heads, note),
    intermediateSize: integer("intermediate_size", json.intermediate_size, 8, LIMITS.intermediate, note, 8),
    maxPositions: integer("max_position_embeddings", json.max_position_embeddings, 1, LIMITS.positions, note),
  };
}

/** `stated`, or hidden_size / num_attention_heads. */
function readHeadDim(stated: unknown, { hiddenSize, heads }: { hiddenSize: number; heads: number }, note: Note): number {
  if (stated != null) return integer("head_dim", stated, 8, LIMITS.headDim, note, 8);
  const quotient = hiddenSize / heads;
  if (Number.isNaN(quotient)) return NaN;
  if (!Number.isInteger(quotient)) {
    note("hidden_size", `a multiple of num_attention_heads (${heads})`, hiddenSize);
    return NaN;
  }
  return integer("head_dim (hidden_size / num_attention_heads)", quotient, 8, LIMITS.headDim, note, 8);
}

/** `defaultPart`: how much of a head rotates when the file does not say; 1 for the Qwens, where it can be nothing else. */
function readRope(json: Json, headDim: number, defaultPart: number, note: Note): Pick<ModelConfig, "rotaryDims" | "ropeTheta"> {
  const now = plainRope("rope_parameters", json.rope_parameters, note);
  const scaling = plainRope("rope_scaling", json.rope_scaling, note);
  const { field: thetaField, value: theta } = oneOf({
    "rope_parameters.rope_theta": now.rope_theta,
    "rope_scaling.rope_theta": scaling.rope_theta,
    rope_theta: json.rope_theta,
    rotary_emb_base: json.rotary_emb_base,
  }, note) ?? { field: "rope_theta", value: 10000 };
  const { field: partField, value: part } = oneOf({
    "rope_parameters.partial_rotary_factor": now.partial_rotary_factor,
    "rope_scaling.partial_rotary_factor": scaling.partial_rotary_factor,
    partial_rotary_factor: json.partial_rotary_factor,
    rotary_pct: json.rotary_pct,
  }, note) ?? { field: "rotary_pct", value: defaultPart };

  const rotaryDims = Math.trunc(headDim * number(partField, part, 1, note));
  if (defaultPart === 1 && rotaryDims < headDim) note(partField, "1 (this architecture rotates whole heads)", part);
  else if (rotaryDims % 2 > 0 || rotaryDims === 0) {
    note(partField, `a part of head_dim (${headDim}) that is an even number of dims, at least 2`, `${part}: ${rotaryDims} dims`);
  }
  return { rotaryDims, ropeTheta: number(thetaField, theta, 1e12, note) };
}

/** The object itself when it asks for plain RoPE and nothing else; {} when there is none or it has been noted. */
function plainRope(name: string, rope: unknown, note: Note): Json {
  if (rope == null) return {};
  if (!isObject(rope)) {
    note(name, "null or an object", rope);
    return {};
  }
  const type = oneOf({ [`${name}.rope_type`]: rope.rope_type, [`${name}.type`]: rope.type }, note);
  if (type !== undefined && type.value !== "default") {
    note(type.field, '"default" (plain RoPE, the only type supported)', type.value);
    return {};
  }
  for (const [key, value] of Object.entries(rope)) {
    if (!["rope_type", "type", "rope_theta", "partial_rotary_factor"].includes(key)) {
      note(`${name}.${key}`, "only rope_type, rope_theta and partial_rotary_factor", value);
    }
  }
  return rope;
}

function refuseUnsupported(json: Json, layers: number, note: Note): void {
  if (flag(json, "use_mrope", note)) note("use_mrope", "false (multimodal RoPE is not supported)", true);
  refuseSlidingWindow(json, layers, note);
}

/** Which layers see only a window: `layer_types` says so, or else those from `max_window_layers` on once `use_sliding_window` is set. */
function refuseSlidingWindow(json: Json, layers: number, note: Note): void {
  const inUse = flag(json, "use_sliding_window", note) && json.sliding_window !== null;
  const types = json.layer_types;
  if (Array.isArray(types)) {
    const other = types.find((type) => type !== "full_attention");
    if (other !== undefined) note("layer_types", '"full_attention" in every layer', other);
    else if (types.length !== layers && !Number.isNaN(layers)) note("layer_types", `${layers} entries (num_hidden_layers)`, types.length);
  } else if (types != null) {
    note("layer_types", "a list", types);
  } else if (inUse) {
    const firstWindowed = integer("max_window_layers", json.max_window_layers, 0, LIMITS.layers, note);
    if (firstWindowed < layers) {
      note("use_sliding_window", `false, or max_window_layers of at least ${layers} (sliding windows are not supported)`, true);
    }
  }
}

/** undefined when it is none that we run, or not clear which; then the reason is noted. */
function readArchitecture(json: Json, note: Note): Architecture | undefined {
  const known = Object.keys(CLASSES) as Architecture[];
  const { model_type: type, architectures } = json;
  const classes = architectures == null ? [] : Array.isArray(architectures) ? architectures : [architectures];
  const byType = known.find((name) => name === type);
  const byClass = known.find((name) => classes.includes(CLASSES[name]));
  const typeSilent = type == null;
  const classSilent = classes.length === 0;
  if (byType === undefined && (!typeSilent || classSilent)) note("model_type", `one of ${known.join(", ")}`, type);
  if (byClass === undefined && !classSilent) note("architectures", `one of ${Object.values(CLASSES).join(", ")}`, architectures);
  if (typeSilent || byType === byClass) return byClass;
  if (classSilent) return byType;
  if (byType !== undefined && byClass !== undefined) note("architectures", `${CLASSES[byType]}, as model_type says`, architectures);
  return undefined;
}

function readActivation<A extends string>(json: Json, known: Readonly<Record<string, A>>, note: Note): A {
  const name = json.hidden_act;
  const found = typeof name === "string" && Object.hasOwn(known, name) ? known[name] : undefined;
  if (found === undefined) note("hidden_act", `one of ${Object.keys(known).join(", ")}`, name);
  return found as A; // undefined only beside a noted problem: the record is then never handed out
}

/** One id, a list of them, or null for none. */
function readTokenIds(field: string, value: unknown, vocabSize: number, note: Note): number[] {
  const ids = value === null ? [] : Array.isArray(value) ? value : [value];
  return ids.map((id) => integer(field, id, 0, (vocabSize || LIMITS.vocab) - 1, note));
}
