/** The plan's arithmetic against sizes that others published or that follow by hand. Against the ledger: footprint.gpu.test.ts. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ContextLengthError, UsageError } from "../../engine/errors.ts";
import { parseConfig } from "../../models/config.ts";
import { DEFAULT_LIMITS, footprint, shortage, type DeviceLimits, type Footprint } from "../../models/footprint.ts";
import type { LoadOptions } from "../../models/options.ts";
import { presetConfig } from "../../models/presets.ts";

/** An adapter on which nothing meets a limit. */
const LARGE: DeviceLimits = { maxBinding: 2 ** 40, maxBuffer: 2 ** 40, family: "gpu" };

function planned(name: string, options: LoadOptions = {}, limits = LARGE): Footprint {
  return footprint({ name, config: parseConfig(presetConfig(name), name) }, options, limits);
}

test("parameters are those of the published models", () => {
  // Model cards and the safetensors metadata of the hub.
  const published = {
    "pythia-70m": 70_426_624, "pythia-1.4b": 1_414_647_808, "pythia-6.9b": 6_857_302_016,
    "qwen2.5-0.5b": 494_032_768, "qwen2.5-1.5b": 1_543_714_304, "qwen2.5-7b": 7_615_616_512, "qwen3-0.6b": 596_049_920, "qwen3-8b": 8_190_735_360,
  };
  for (const [name, parameters] of Object.entries(published)) assert.is(planned(name).parameters, parameters, name);
});

test("weights by format: bytes of a layer's matrices follow from their bits and scales", () => {
  const layers = (weights: LoadOptions["weights"]): number => {
    const group = planned("qwen2.5-0.5b", { weights: weights! }).groups.find((of) => of.group === "layers")!;
    assert.equal(group.formats, [weights]);
    return group.bytes;
  };
  // Qwen2.5-0.5B: hidden 896, qkv 896 + 2 · 128, intermediate 4864; vectors in f32.
  const rows = 1152 + 896 + 2 * 4864 + 896, weights = 24 * (896 * (1152 + 896 + 2 * 4864) + 4864 * 896), vectors = 24 * 4 * (1152 + 2 * 896);
  assert.is(layers("f32"), 4 * weights + vectors);
  assert.is(layers("f16"), 2 * weights + vectors);
  assert.is(layers("bf16"), 2 * weights + vectors);
  assert.is(layers("int8"), weights + 24 * 4 * rows + vectors);
  assert.is(layers("llm.int8"), layers("int8"));
  assert.is(layers("nf4"), weights / 2 + 4 * weights / 64 + vectors);
  assert.is(layers("fp4"), layers("nf4"));
  const double = layers("nf4-double") - weights / 2 - weights / 64 - 4 * weights / 64 / 256 - vectors;
  assert.ok(double >= 24 * 4 * 1040 && double <= 24 * 4 * 1040 + 24 * 4 * 40, `${double} bytes of maps, offsets and what is rounded up`);
  const { groups } = planned("qwen2.5-0.5b", { weights: "nf4" });
  assert.equal(groups[0], { group: "embedding", parameters: 151936 * 896, bytes: 2 * 151936 * 896, formats: ["bf16"] }, "stays as it is stored");
  assert.equal(groups[2], { group: "head", parameters: 896, bytes: 4 * 896, formats: [] }, "tied to the embedding");
});

test("keys and values: bytes of a token, of a sequence in whole blocks, and what the default pool holds", () => {
  const { kv, memory } = planned("qwen2.5-1.5b", { maxModelLen: 8190, maxSequences: 16 });
  assert.is(kv.tokenBytes, 2 * 28 * 2 * 128 * 2);
  assert.is(kv.sequenceBytes, 8192 * kv.tokenBytes);
  assert.is(kv.batchBytes, 16 * kv.sequenceBytes);
  assert.is(kv.sequences, Math.floor(2 ** 30 / kv.sequenceBytes), "1 GiB by default");
  const tables = 16 * 28 * 2 * (512 + 1) * 4 + 28 * 256;
  assert.is(memory.kv, kv.poolBytes + tables);
  assert.is(planned("qwen2.5-1.5b", { maxModelLen: 8192, kv: "int8" }).kv.tokenBytes, 2 * 28 * 2 * (128 + 4 * 2));
  assert.is(planned("qwen2.5-1.5b", { maxModelLen: 8192, kv: { k: "int8", v: "int4" } }).kv.tokenBytes, 28 * 2 * (128 + 4 * 2 + 64 + 4 * 4));
  const kivi = planned("qwen2.5-1.5b", { maxModelLen: 8192, maxSequences: 16, prefillChunk: 256, kv: "kivi4" }).kv;
  assert.is(kivi.tokenBytes, 28 * 2 * (64 + 4 * 128 / 16 + 64 + 4 * 4), "a line of each channel for 16 tokens");
  assert.is(kivi.recentBytes, 2 * 128 * 2 * (16 * 28 * 16 + 16 * 16 + 256), "tails of all layers, those of a step, and its rows");
  assert.is(kivi.poolBytes, kivi.recentBytes + 8 * kivi.sequenceBytes);
  assert.is(kivi.batchBytes, kivi.recentBytes + 16 * kivi.sequenceBytes);
  assert.is(planned("qwen2.5-1.5b", { maxModelLen: 8192, maxSequences: 16, kv: "kivi4", kvMemory: kivi.batchBytes }).kv.sequences, 16);
  assert.is(planned("qwen2.5-1.5b", { maxModelLen: 8192, maxSequences: 16, kv: "kivi4", kvMemory: kivi.batchBytes - 1 }).kv.sequences, 15);
  const inBlocks = planned("qwen2.5-1.5b", { kv: "kivi4", kvLayout: { name: "paged", blockSize: 32 } }).kv;
  assert.is(inBlocks.tokenBytes, planned("qwen2.5-1.5b", { kv: "int4" }).kv.tokenBytes);
  const long = planned("qwen2.5-1.5b", { maxModelLen: 131072 }).kv;
  assert.equal([long.sequences, long.poolBytes], [1, long.sequenceBytes], "one sequence of full length at least");
  assert.is(planned("qwen2.5-1.5b", { maxModelLen: 1024, maxSequences: 3 }).kv.sequences, 3);
  assert.is(planned("qwen2.5-1.5b", { kvMemory: 100_000_000 }).kv.poolBytes, Math.floor(100_000_000 / (2 * 16 * 256)) * 2 * 16 * 256);
});

test("what an adapter cannot hold is named with the number that would fit, and everything is counted all the same", () => {
  const problems = (name: string, options: LoadOptions, limits: Partial<DeviceLimits> = {}): string[] =>
    planned(name, options, { ...DEFAULT_LIMITS, maxBuffer: 2 ** 40, ...limits }).problems.slice();
  assert.equal(problems("qwen2.5-1.5b", {}), []);
  assert.match(problems("qwen2.5-1.5b", { maxSequences: 1000 })[0]!, /^1000 rows of logits take 607744000 bytes, .* lower maxSequences to 216 or less$/);
  assert.match(problems("qwen2.5-1.5b", { prefillChunk: 8192 })[0]!, /^8192 rows of activations take 293601280 bytes, .* lower prefillChunk and maxSequences to 3744 or less$/);
  assert.match(problems("qwen2.5-1.5b", { kvMemory: 2 ** 30 })[0]!, /^a KV cache of 1073741824 bytes .* lower kvMemory to 268435456 or less$/);
  assert.match(problems("qwen2.5-1.5b", { kvMemory: 2 ** 16 })[0]!, /^the KV cache needs at least 458752 bytes .*: raise kvMemory$/);
  assert.match(problems("pythia-2.8b", { maxModelLen: 2048, maxSequences: 512 }, { maxBinding: 2 ** 27 })[0]!, /^the buffer of block tables takes 268435456 bytes, .* lower maxSequences or maxModelLen$/);
  assert.match(problems("qwen2.5-7b", { weights: "int8" })[0]!, /up_proj\.weight takes 135790592 bytes in int8, .* binds at most 134217728: load it in floats/);
  assert.match(problems("qwen2.5-0.5b", { weights: "f32" }, { maxBuffer: 2 ** 28 })[0]!, /^model\.embed_tokens\.weight takes 544538624 bytes, .*\(268435456\): load with weights "f16"$/);
  const { memory, kv } = planned("qwen2.5-1.5b", { kvMemory: 2 ** 30 }, DEFAULT_LIMITS);
  assert.ok(memory.kv > 2 ** 30 && kv.poolBytes === 2 ** 30 && kv.mostBytes === 2 ** 28);
});

test("a shortage says how much is missing, and for how many bytes of cache there would be room", () => {
  const made = planned("qwen2.5-1.5b", { maxModelLen: 2048 });
  const { total } = made.memory;
  assert.is(made.peak.total, total);
  assert.is(shortage(made, total), null);
  const rest = total - made.kv.poolBytes;
  assert.equal(shortage(made, total - 1), { neededBytes: total, missingBytes: 1, kvMemory: made.kv.poolBytes - 1 });
  assert.is(shortage(made, rest + made.kv.sequenceBytes)!.kvMemory, made.kv.sequenceBytes);
  assert.is(shortage(made, rest + made.kv.sequenceBytes - 1)!.kvMemory, null, "not a single sequence");
  const small = planned("pythia-14m", { weights: "nf4-double", maxModelLen: 64, maxSequences: 1, kvMemory: 200_000 });
  assert.ok(small.peak.total >= small.memory.total && small.peak.staging === small.loadStaging);
});

test("sizes and formats that the model does not allow are refused as loading refuses them", () => {
  const refused = (type: new (message: string) => Error, message: RegExp, options: LoadOptions): void => {
    try {
      planned("pythia-70m", options);
    } catch (error) {
      assert.instance(error, type);
      assert.match((error as Error).message, message);
      return;
    }
    assert.unreachable(`nothing was thrown for ${JSON.stringify(options)}`);
  };
  refused(ContextLengthError, /^maxModelLen is 4096, but pythia-70m was made for at most 2048 positions$/, { maxModelLen: 4096 });
  refused(UsageError, /int4 in groups of 48 does not fit a head_dim of 64/, { kv: { format: "int4", group: 48 } });
});

test.run();
