/**
 * Qwen2 and Qwen3 on the host in double, over a cache that is nothing but lists of keys and values: the oracle for whatever is done to
 * the real cache. It shares with the engine the scalar twins of the kernels and nothing else: no blocks, tables, batches or buffers.
 */

import { convert } from "../../engine/dtype.ts";
import { headNormed, rope } from "../../kernels/reference/attention.ts";
import { dot, linear } from "../../kernels/reference/linear.ts";
import { norm } from "../../kernels/reference/norm.ts";
import { readConfig, type ModelConfig } from "../../models/config.ts";
import { ropeTable } from "../../models/rope.ts";
import { tensorsOf } from "./llm.ts";

interface Entries { k: number[][]; v: number[][] }

/** What one sequence has seen and still holds: entries of every [layer][KV head], oldest first. */
export class SequenceTwin {
  position = 0;
  readonly tables: Entries[][];

  constructor({ layers, kvHeads }: ModelConfig) {
    this.tables = Array.from({ length: layers }, () => Array.from({ length: kvHeads }, () => ({ k: [], v: [] })));
  }

  keep(layer: number, kept: readonly Uint32Array[]): void {
    kept.forEach((entries, head) => {
      const { k, v } = this.tables[layer]![head]!;
      this.tables[layer]![head] = { k: [...entries].map((i) => k[i]!), v: [...entries].map((i) => v[i]!) };
    });
  }

  truncate(position: number): void {
    const dropped = this.position - position;
    for (const entries of this.tables.flat()) for (const list of [entries.k, entries.v]) list.length -= dropped;
    this.position = position;
  }
}

export class QwenTwin {
  readonly config: ModelConfig;
  readonly #weights: ReadonlyMap<string, Float32Array>;
  readonly #cosSin: Float32Array;

  static async read(folder: string): Promise<QwenTwin> {
    const weights = new Map<string, Float32Array>();
    for (const [name, { dtype, data }] of await tensorsOf(folder)) {
      weights.set(name, new Float32Array(convert(data, dtype.toLowerCase() as "f32" | "f16" | "bf16", "f32").slice().buffer));
    }
    return new QwenTwin(await readConfig(folder), weights);
  }

  private constructor(config: ModelConfig, weights: ReadonlyMap<string, Float32Array>) {
    this.config = config;
    this.#weights = weights;
    this.#cosSin = ropeTable(config, config.maxPositions);
  }

  /** The next tokens of a sequence, one after the other; logits [ids.length, vocab]. */
  forward(sequence: SequenceTwin, ids: readonly number[]): Float64Array {
    const { vocabSize } = this.config;
    const logits = new Float64Array(ids.length * vocabSize);
    ids.forEach((id, i) => { logits.set(this.#token(sequence, id), i * vocabSize); });
    return logits;
  }

  #token(sequence: SequenceTwin, id: number): Float64Array {
    const { hiddenSize, layers, tieEmbeddings } = this.config;
    const embedding = this.#named("model.embed_tokens.weight");
    let x: Float64Array = Float64Array.from(embedding.subarray(id * hiddenSize, (id + 1) * hiddenSize));
    for (let layer = 0; layer < layers; layer++) {
      const at = `model.layers.${layer}`;
      x = this.#project(this.#attend(sequence, layer, this.#rms(x, `${at}.input_layernorm`)), `${at}.self_attn.o_proj`, x);
      const normed = this.#rms(x, `${at}.post_attention_layernorm`);
      const inner = linear({ x: normed, rows: 1, K: hiddenSize, weight: this.#named(`${at}.mlp.gate_proj.weight`), up: this.#named(`${at}.mlp.up_proj.weight`) });
      x = this.#project(inner, `${at}.mlp.down_proj`, x);
    }
    sequence.position++;
    return this.#project(this.#rms(x, "model.norm"), tieEmbeddings ? "model.embed_tokens" : "lm_head");
  }

  /** Keys and values of the token join the sequence, then every query head reads its KV head. */
  #attend({ position, tables }: SequenceTwin, layer: number, x: Float64Array): Float64Array {
    const { heads, kvHeads, headDim, rotaryDims, qkNorm, normEps } = this.config;
    const at = `model.layers.${layer}.self_attn`;
    const split = (name: string, count: number): number[][] => {
      const all = this.#project(x, `${at}.${name}_proj`);
      return Array.from({ length: count }, (_, head) => [...all.subarray(head * headDim, (head + 1) * headDim)]);
    };
    const turned = (head: number[], name: string): number[] => {
      const normed = qkNorm ? headNormed(head, [...this.#named(`${at}.${name}_norm.weight`)], normEps) : head;
      return rope(normed, this.#cosSin, rotaryDims / 2, position);
    };
    split("k", kvHeads).forEach((key, head) => { tables[layer]![head]!.k.push(turned(key, "k")); });
    split("v", kvHeads).forEach((value, head) => { tables[layer]![head]!.v.push(value); });
    const out = split("q", heads).flatMap((query, head) => {
      const { k, v } = tables[layer]![Math.floor(head / (heads / kvHeads))]!;
      const q = turned(query, "q");
      const scores = k.map((key) => dot(q, 0, key, 0, headDim) / Math.sqrt(headDim));
      const best = Math.max(...scores);
      const masses = scores.map((score) => Math.exp(score - best));
      const total = masses.reduce((sum, mass) => sum + mass, 0);
      return Array.from({ length: headDim }, (_, d) => masses.reduce((sum, mass, i) => sum + (mass / total) * v[i]![d]!, 0));
    });
    return Float64Array.from(out);
  }

  #rms(x: Float64Array, name: string): Float64Array {
    return norm({ kind: "rms", x, weight: this.#named(`${name}.weight`), eps: this.config.normEps });
  }

  #project(x: Float64Array, name: string, residual?: Float64Array): Float64Array {
    const bias = this.#weights.get(`${name}.bias`);
    return linear({ x, rows: 1, K: x.length, weight: this.#named(`${name}.weight`), ...(bias && { bias }), ...(residual && { residual }) });
  }

  #named(name: string): Float32Array {
    const found = this.#weights.get(name);
    if (found === undefined) throw new Error(`no weight ${name}`);
    return found;
  }
}
