/**
 * From checkpoint to weights on the GPU: every mismatch is told at once and before anything is allocated, formats are converted as the
 * host converts them, a matrix larger than one binding gives the same bits, and random weights follow their seed.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { convert, numberToBf16 } from "../../engine/dtype.ts";
import { LLM, ModelFileError, UsageError, type WeightFormat } from "../../index.ts";
import type { FloatFormat } from "../../kernels/formats.ts";
import { withEngine } from "../support/engine.ts";
import { argmaxes, bits, type Draft, folderOf, relativeError, withCheckpoint, withGpus, withModel, withoutWarmUp } from "../support/llm.ts";
import { rejects } from "../support/rejects.ts";

// What is tested here does not depend on what is compiled beforehand, and compiling takes most of the time on a fresh machine.
test.after(withoutWarmUp());

const OPTIONS = { kv: "f32", maxModelLen: 256, maxSequences: 2, prefillChunk: 24 } as const;
const IDS = Array.from({ length: 40 }, (_, i) => (i * 31 + 5) % 96);

async function logitsOf(folder: string, weights: "auto" | WeightFormat = "auto"): Promise<Float32Array> {
  const llm = await LLM.load(folder, { ...OPTIONS, weights });
  const logits = await llm.logits(IDS);
  await llm.close();
  return logits;
}

/** The message with which a changed checkpoint is refused; it must be refused before a byte of it is on the GPU. */
async function refusal(name: string, change: (draft: Draft) => void, type: typeof ModelFileError | typeof UsageError = ModelFileError): Promise<string> {
  let message = "";
  await withCheckpoint(name, change, async (folder) => {
    await withGpus({}, async (gpus) => {
      const error = await LLM.load(folder, OPTIONS).then(() => assert.unreachable("it was loaded"), (thrown: unknown) => thrown);
      assert.instance(error, type, String(error));
      message = (error as Error).message;
      assert.ok(message.startsWith(folder), message);
      for (const gpu of gpus) {
        const { total, peak } = gpu.ledger.report();
        assert.is(total, 0);
        if (type === ModelFileError) assert.is(peak.total, 0, "nothing was allocated");
        await gpu.device.lost;
      }
    });
  });
  return message;
}

test("missing, left-over and misshapen tensors are told all at once", async () => {
  const message = await refusal("qwen2-gqa-tied-f32", ({ tensors }) => {
    const [gone, flat, spare] = ["model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight", "model.norm.weight"];
    tensors.delete(gone!);
    const { shape, data } = tensors.get(flat!)!;
    tensors.set(flat!, { name: flat!, dtype: "F32", shape: [shape[0]! / 2, shape[1]! * 2], data });
    tensors.set("model.layers.7.input_layernorm.weight", { ...tensors.get(spare!)!, name: "model.layers.7.input_layernorm.weight" });
    tensors.set(spare!, { name: spare!, dtype: "I32", shape: tensors.get(spare!)!.shape, data: tensors.get(spare!)!.data });
  });
  assert.match(message, /4 problems/);
  assert.match(message, /model\.layers\.1\.mlp\.up_proj\.weight: missing, expected shape \[\d+, \d+\]/);
  assert.match(message, /layers\.0\.self_attn\.q_proj\.weight: expected shape \[64, 64\], found \[32, 128\]/);
  assert.match(message, /model\.layers\.7\.input_layernorm\.weight: not a weight of this architecture/);
  assert.match(message, /model\.norm\.weight: dtype I32 is not supported/);
});

test("a config that promises another variant than the weights hold is refused", async () => {
  assert.match(await refusal("qwen2-gqa-tied-f16", ({ config }) => { config.tie_word_embeddings = false; }), /lm_head\.weight: missing/);
  assert.match(await refusal("qwen3-gqa-tied", ({ config }) => { config.model_type = "qwen2"; config.architectures = ["Qwen2ForCausalLM"]; }), /q_norm\.weight: not a weight/);
  assert.match(await refusal("neox-parallel", ({ config }) => { config.attention_bias = false; }), /query_key_value\.bias: not a weight/);
  assert.match(await refusal("neox-no-attention-bias", ({ config }) => { config.attention_bias = true; }), /attention\.dense\.bias: missing/);
  assert.match(await refusal("neox-parallel", ({ config }) => { config.num_hidden_layers = 1; }), /gpt_neox\.layers\.1\..*: not a weight/);
});

test("buffers of old checkpoints and a copy of a tied embedding change nothing", async () => {
  const expected = bits(await logitsOf(folderOf("qwen2-gqa-tied-f16")));
  await withCheckpoint("qwen2-gqa-tied-f16", ({ tensors }) => {
    tensors.set("lm_head.weight", { ...tensors.get("model.embed_tokens.weight")!, name: "lm_head.weight" });
    tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", { name: "model.layers.0.self_attn.rotary_emb.inv_freq", dtype: "F32", shape: [2], data: new Uint8Array(8) });
  }, async (folder) => { assert.equal(bits(await logitsOf(folder)), expected); });
  const neox = bits(await logitsOf(folderOf("neox-parallel")));
  await withCheckpoint("neox-parallel", ({ tensors }) => {
    for (const name of ["attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"]) {
      tensors.set(`gpt_neox.layers.0.${name}`, { name: `gpt_neox.layers.0.${name}`, dtype: "U8", shape: [1], data: new Uint8Array(1) });
    }
  }, async (folder) => { assert.equal(bits(await logitsOf(folder)), neox); });
});

/** Every matrix of the checkpoint in another format, rounded on the host; vectors stay. */
function narrowed(format: "f16" | "bf16"): (draft: Draft) => void {
  return ({ tensors }) => {
    for (const [name, { dtype, shape, data }] of tensors) {
      if (shape.length !== 2) continue;
      const narrow = convert(data, dtype.toLowerCase() as FloatFormat, format);
      tensors.set(name, { name, dtype: format.toUpperCase() as "F16" | "BF16", shape, data: narrow });
    }
  };
}

for (const [name, stored] of [["qwen2-gqa-tied-f32", "f32"], ["qwen2-gqa-tied-f16", "f16"], ["qwen2-gqa-tied-bf16", "bf16"], ["neox-parallel", null]] as const) {
  test(`${name}: weights converted while loading are those of a checkpoint stored so`, async () => {
    const folder = folderOf(name);
    const own = await logitsOf(folder);
    if (stored !== null) assert.equal(bits(await logitsOf(folder, stored)), bits(own), "auto keeps the stored format");
    for (const format of ["f16", "bf16"] as const) {
      await withCheckpoint(name, narrowed(format), async (copy) => {
        const converted = await logitsOf(folder, format);
        assert.equal(bits(converted), bits(await logitsOf(copy)), format);
        const error = relativeError(converted, own);
        assert.ok(error < (format === "f16" ? 1e-2 : 1e-1), `${format} is off by ${error}`);
        if (stored === "f32") assert.ok(error > 1e-5, `nothing was rounded to ${format}`);
      });
    }
    // Widening loses nothing, but the sums of a product may run in another order.
    assert.ok(relativeError(await logitsOf(folder, "f32"), own) < 1e-5);
  });
}

test("a checkpoint whose stacked matrices are stored in several formats loads, each number kept", async () => {
  const mixed = ({ tensors }: Draft): void => {
    for (const name of ["model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.up_proj.weight"]) {
      const { shape, data } = tensors.get(name)!;
      tensors.set(name, { name, dtype: "F32", shape, data: convert(data, "f16", "f32") });
    }
  };
  const expected = await logitsOf(folderOf("qwen2-gqa-tied-f16"));
  await withCheckpoint("qwen2-gqa-tied-f16", mixed, async (folder) => { assert.ok(relativeError(await logitsOf(folder), expected) < 1e-5); });
});

test("a value that a narrower format cannot hold is refused, and the GPU given back", async () => {
  const large = ({ tensors }: Draft): void => {
    const { data } = tensors.get("model.layers.1.mlp.down_proj.weight")!;
    new DataView(data.buffer, data.byteOffset).setFloat32(40, 1e6, true);
  };
  await withCheckpoint("qwen2-gqa-tied-f32", large, async (folder) => {
    await withGpus({}, async (gpus) => {
      await rejects(LLM.load(folder, { ...OPTIONS, weights: "f16" }), UsageError, /1 values of model\.layers\.1\.mlp\.down_proj\.weight are beyond the range of f16/);
      assert.is(gpus[0]!.ledger.report().total, 0);
      await gpus[0]!.device.lost;
    });
    await withModel(folder, { ...OPTIONS, weights: "bf16" }, async (llm) => { assert.ok((await llm.logits([1])).every(Number.isFinite)); });
  });
});

const SPLIT: readonly (readonly [name: string, weights: "auto" | WeightFormat])[] = [
  ["qwen2-gqa-tied-f32", "auto"], ["qwen3-attention-bias", "f16"], ["neox-rotary100-tied", "bf16"],
];
for (const [name, weights] of SPLIT) {
  test(`${name}: weights cut into parts of 64 rows give the same bits`, async () => {
    const run = async (weightBinding?: number): Promise<{ logits: Uint32Array; parts: number }> => {
      let result = { logits: new Uint32Array(), parts: 0 };
      await withEngine({ folder: folderOf(name), weights, rows: 24, ...(weightBinding !== undefined && { weightBinding }) }, async (engine) => {
        const { vocabSize } = engine.config;
        const slots = Array.from({ length: 4 }, () => engine.tables.open(150)!);
        const logits = [await engine.prefill([slots[0]!, IDS.slice(0, 20)], [slots[1]!, [3]]), await engine.decode([slots[0]!, 4])];
        logits.push(await engine.prefill([slots[2]!, [1, 2]], [slots[3]!, [7]]), await engine.decode([slots[1]!, vocabSize - 1], [slots[2]!, 64], [slots[3]!, 63]));
        result = { logits: Uint32Array.from(logits.flatMap((rows) => [...bits(rows)])), parts: engine.embeddingParts };
      });
      return result;
    };
    const whole = await run(), cut = await run(4096);
    assert.equal([whole.parts, cut.parts], [1, 2], "parts of the embedding");
    assert.equal(cut.logits, whole.logits);
  });
}

test("random weights: a true architecture, the same for the same seed, another for another", async () => {
  const texts: string[] = [];
  for (const seed of [0, 0, 1]) {
    await withModel("random:pythia-14m", { ...OPTIONS, seed, maxModelLen: 64 }, async (llm) => {
      const { ids, text } = await llm.generate("The whale", { maxNewTokens: 6, ignoreEos: true });
      assert.is(text, await llm.tokenizer.decode(ids));
      const logits = await llm.logits([1, 2, 3]);
      assert.ok(logits.every(Number.isFinite));
      assert.ok(new Set(argmaxes(logits, llm.config.vocabSize)).size > 1, "positions are told apart");
      texts.push(`${llm.source.fingerprint} ${ids.join(" ")} ${bits(logits).slice(0, 64).join(" ")}`);
      assert.equal([llm.source.random, llm.source.revision, llm.config.layers, llm.config.hiddenSize], [true, null, 6, 128]);
    });
  }
  assert.is(texts[0], texts[1]);
  const [first, last] = [texts[0]!.split(" "), texts[2]!.split(" ")];
  for (let i = 0; i < first.length; i += first.length - 1) assert.is.not(first[i], last[i], "another seed");
});

test("the fingerprint follows the weights; a folder says where it came from", async () => {
  const fingerprints: string[] = [];
  const fingerprint = async (folder: string): Promise<void> => {
    await withModel(folder, OPTIONS, async (llm) => {
      assert.equal([llm.source.random, llm.source.revision], [false, null]);
      fingerprints.push(llm.source.fingerprint);
    });
  };
  await withCheckpoint("qwen2-mqa", () => {}, fingerprint);
  await withCheckpoint("qwen2-mqa", () => {}, fingerprint);
  await withCheckpoint("qwen2-mqa", ({ tensors }) => {
    const { data } = tensors.get("model.norm.weight")!;
    new DataView(data.buffer, data.byteOffset).setUint16(0, numberToBf16(2), true);
  }, fingerprint);
  assert.is(fingerprints[0], fingerprints[1]);
  assert.is.not(fingerprints[0], fingerprints[2]);
});

test("progress goes up to the whole, and ends", async () => {
  const seen: { stage: string; loaded: number; total: number }[] = [];
  await withModel(folderOf("neox-parallel"), { ...OPTIONS, onProgress: ({ stage, loaded, total }) => { seen.push({ stage, loaded, total }); } }, async () => {});
  const weights = seen.filter(({ stage }) => stage === "weights");
  assert.ok(weights.every(({ loaded }, i) => i === 0 || loaded >= weights[i - 1]!.loaded));
  assert.is(weights.at(-1)!.loaded, weights.at(-1)!.total);
  const config = JSON.parse(readFileSync(join(folderOf("neox-parallel"), "config.json"), "utf8")) as Record<string, number>;
  assert.ok(weights.at(-1)!.total > 2 * config.vocab_size! * config.hidden_size!, "elements, both embeddings among them");
});

test.run();
