/**
 * The plan against the ledger, to the byte: after loading, and the peaks of every category from the first weight to the last token.
 * Compiled pipelines take no part in the ledger, so most models here are loaded without compiling what generation would need.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Checkpoint } from "../../engine/checkpoint.ts";
import { OutOfMemoryError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { LLM, type LoadOptions } from "../../index.ts";
import { parseConfig, readConfig } from "../../models/config.ts";
import { footprint, type DeviceLimits, type Footprint, type PlannedModel } from "../../models/footprint.ts";
import { presetConfig } from "../../models/presets.ts";
import { Runner } from "../../models/runner.ts";
import { FORMATS } from "../../models/weights.ts";
import { folderOf, withGpus, withModel, withoutWarmUp } from "../support/llm.ts";

// What is tested here does not depend on what is compiled beforehand, and compiling takes most of the time on a fresh machine.
test.after(withoutWarmUp());

async function modelOf(name: string): Promise<{ spec: string; planned: PlannedModel }> {
  if (name.startsWith("random:")) return { spec: name, planned: { name, config: parseConfig(presetConfig(name.slice(7)), name) } };
  const spec = folderOf(name);
  const checkpoint = await Checkpoint.open(spec);
  await checkpoint.close();
  return { spec, planned: { name, config: await readConfig(spec), dtypeOf: (tensor) => FORMATS[checkpoint.tensors.get(tensor)!.dtype]! } };
}

function limitsOf({ maxBinding, family, device }: Gpu): DeviceLimits {
  return { maxBinding, maxBuffer: device.limits.maxBufferSize, family };
}

async function withoutCompiling<T>(body: () => Promise<T>): Promise<T> {
  const { prepare } = Runner.prototype;
  Runner.prototype.prepare = () => Promise.resolve();
  try {
    return await body();
  } finally {
    Runner.prototype.prepare = prepare;
  }
}

function same(llm: LLM, { memory, peak }: Footprint, what: string): void {
  const { peak: highest, ...now } = llm.memory();
  assert.equal({ ...memory }, now, `${what}: after loading`);
  assert.equal({ ...peak }, highest, `${what}: peaks`);
}

/** Load and compare, in both families of kernels: decoding splits rows in different ways. */
async function check(name: string, options: LoadOptions, family?: Gpu["family"]): Promise<void> {
  const { spec, planned } = await modelOf(name);
  await withGpus(family === undefined ? {} : { family }, (opened) => withoutCompiling(() => withModel(spec, options, async (llm) => {
    same(llm, footprint(planned, options, limitsOf(opened[0]!)), `${name} ${JSON.stringify(options)}`);
  })));
}

/** Models with all that changes the arithmetic: shared and separate products, biases, grouped heads, tied embeddings, stored formats, random weights. */
const CASES: readonly (readonly [name: string, options: LoadOptions, family?: Gpu["family"]])[] = [
  ["tiny-neox", {}],
  ["tiny-neox", { weights: "f32", kv: "f32", maxModelLen: 1000, maxSequences: 3, prefillChunk: 17 }, "gpu"],
  ["tiny-neox", { weights: "nf4", kv: "int8" }],
  ["tiny-neox", { weights: "int8", kv: "int4", kvLayout: { name: "paged", blockSize: 5 } }, "gpu"],
  ["tiny-qwen2", { weights: "bf16", kv: "bf16" }],
  ["tiny-qwen2", { kv: "kivi4", maxSequences: 3, prefillChunk: 30, kvMemory: 2_000_000 }],
  ["tiny-qwen2", { weights: "nf4-double", kv: { k: "int8", v: "int4" }, maxSequences: 100 }],
  ["tiny-qwen2", { weights: "llm.int8", kvMemory: 3_000_000 }], ["tiny-neox", { weights: "llm.int8" }],
  ["tiny-neox-draft", { weights: "fp4", kvLayout: { name: "contiguous", reserve: "max" } }],
  ["neox-sequential-rotary50", { weights: "fp4-double", kvLayout: { name: "contiguous", reserve: "exact" }, kvMemory: 300_000 }],
  ["neox-no-attention-bias", { weights: "f16" }],
  ["qwen2-gqa-tied-bf16", {}],
  ["qwen3-gqa-tied", { weights: "int8", kv: "f32" }],
  ["random:pythia-14m", { maxModelLen: 300 }],
  ["random:pythia-14m", { weights: "nf4-double", kv: "int8" }],
];
for (const [name, options, family] of CASES) {
  test(`${name} ${JSON.stringify(options)}${family === undefined ? "" : `, ${family} kernels`}`, () => check(name, options, family));
}

test("generating takes no more than was planned, and what is asked for on top is what the plan says", async () => {
  const options = { kv: "f32", maxModelLen: 256, maxSequences: 8, prefillChunk: 24 } as const;
  const { spec, planned } = await modelOf("qwen2-mqa");
  await withGpus({}, (opened) => withModel(spec, options, async (llm) => {
    const made = footprint(planned, options, limitsOf(opened[0]!));
    await llm.generateBatch([[1, 2, 3], [4, 5], [6]], { maxNewTokens: 40, ignoreEos: true });
    same(llm, made, "generateBatch");
    const extra = async (what: string, ask: () => Promise<unknown>): Promise<void> => {
      const before = llm.memory().total;
      llm.resetPeak();
      await ask();
      assert.is(llm.memory().peak.total - before, made.onDemand.find((item) => item.what === what)!.bytes, what);
    };
    await extra("LLM.logits()", () => llm.logits([1, 2, 3, 4, 5, 6, 7, 8]));
    await extra("log-probabilities", () => llm.generate([1, 2, 3], { maxNewTokens: 2, logprobs: 3, ignoreEos: true }));
    await extra("penalties and biases", () => llm.generate([1, 2, 3], { maxNewTokens: 2, repetitionPenalty: 1.5, ignoreEos: true }));
  }));
});

test("what the plan says does not fit is what loading refuses, in the same words", async () => {
  const cases: readonly (readonly [name: string, maxBinding: number, LoadOptions])[] = [
    ["qwen2-mqa", 1 << 20, { kvMemory: 8 << 20 }],
    ["qwen2-mqa", 1 << 20, { kvMemory: 100 }],
    ["qwen2-mqa", 1 << 16, { prefillChunk: 512, kvMemory: 50_000 }],
    ["tiny-neox", 1 << 18, { weights: "f16", maxSequences: 32, prefillChunk: 32, kvMemory: 500_000 }],
    ["tiny-neox", 1 << 16, { weights: "int8" }],
    ["qwen2-mqa", 1 << 17, { maxSequences: 700, kvMemory: 50_000, kvLayout: { name: "paged", blockSize: 1 }, maxModelLen: 64 }],
  ];
  for (const [name, maxBinding, options] of cases) {
    const { spec, planned } = await modelOf(name);
    let limits: DeviceLimits | null = null;
    const prepare = (gpu: Gpu): void => {
      Object.defineProperty(gpu, "maxBinding", { value: maxBinding });
      limits = limitsOf(gpu);
    };
    let refused: unknown;
    await withGpus({}, () => withoutCompiling(() => withModel(spec, options, async () => {})).catch((error: unknown) => { refused = error; }), prepare);
    assert.instance(refused, OutOfMemoryError, `${name}: ${String(refused)}`);
    const { message } = refused as Error;
    const foreseen = footprint(planned, options, limits!).problems;
    assert.ok(foreseen.includes(message), `${name}: ${message}\nforeseen: ${foreseen.join("\n")}`);
  }
});

test.run();
