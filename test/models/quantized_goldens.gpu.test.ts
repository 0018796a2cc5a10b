/**
 * Checkpoints that bitsandbytes, GPTQ and AWQ tools saved (test/fixtures/quantized) against Hugging Face in double precision: logits of the
 * weights decoded in double precision, through the kernels that read the codes.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError, type WeightFormat } from "../../index.ts";
import { relativeError, withModel, withoutWarmUp } from "../support/llm.ts";
import { quantizedFolder, quantizedGolden, type QuantizedName } from "../support/quantized.ts";
import { rejects } from "../support/rejects.ts";

const OPTIONS = { kv: "f32", maxModelLen: 64, maxSequences: 2, prefillChunk: 64 } as const;
test.after(withoutWarmUp());
/** One of each kind of code, in either architecture; what the others add is how they are read, and quantized_logits.test.ts has that. */
const NAMES: readonly QuantizedName[] = ["neox-nf4-double", "qwen2-nf4", "qwen2-fp4", "neox-int8", "neox-gptq", "qwen2-awq"];

for (const name of NAMES) {
  // Eight bits are held against weights that are only decoded: LLM.int8() quantizes activations too, and its golden is another.
  const weights = name.endsWith("int8") ? "int8" : "auto";
  test(`${name}: logits`, async () => {
    const { ids, logits } = quantizedGolden(name);
    await withModel(quantizedFolder(name), { ...OPTIONS, weights }, async (llm) => {
      const error = relativeError(await llm.logits(ids), logits);
      assert.ok(error < 2e-4, `${name}: logits part by ${error}`);
      const held = llm.weightFormats().map(({ format }) => format);
      assert.ok(held.some((format) => !["f32", "f16", "bf16"].includes(format)), `${name} is held in ${held.join(", ")}`);
    });
  });
}

test("a quantized checkpoint in floats computes the same; in another quantized format it is refused", async () => {
  const { ids, logits } = quantizedGolden("neox-nf4-double");
  await withModel(quantizedFolder("neox-nf4-double"), { ...OPTIONS, weights: "f32" }, async (llm) => {
    assert.equal(llm.weightFormats().map(({ format }) => format), ["f32"]);
    const error = relativeError(await llm.logits(ids), logits);
    assert.ok(error < 2e-4, `logits part by ${error}`);
  });
  const another = withModel(quantizedFolder("neox-nf4-double"), { ...OPTIONS, weights: "int8" as WeightFormat }, async () => {});
  await rejects(another, UsageError, /weights "int8": the checkpoint is quantized to nf4-double already \(gpt_neox.*load it with weights "auto", or in floats/);
});

test.run();
