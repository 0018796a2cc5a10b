/** `dawnlm plan` on the adapter that is here: its limits, its memory, and the same model loaded with the same options. */

import { totalmem } from "node:os";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { PlanReport } from "../../bin/commands/plan.ts";
import { LLM } from "../../index.ts";
import { Runner } from "../../models/runner.ts";
import { dawnlm } from "../support/command.ts";

test("what the command says is what the ledger reads after loading; limits and memory are this machine's", async () => {
  const { code, stdout, stderr } = await dawnlm(["plan", "tiny-qwen2", "--weights", "nf4", "--kv", "int8", "--context", "1024", "--batch", "4", "--prefill_chunk", "32", "--json"]);
  assert.is(code, 0, stderr);
  const { footprint: { memory, peak }, adapter, verdict } = JSON.parse(stdout) as PlanReport;
  const { prepare } = Runner.prototype;
  Runner.prototype.prepare = () => Promise.resolve(); // what it compiles is in no ledger
  try {
    const llm = await LLM.load("tiny-qwen2", { weights: "nf4", kv: "int8", maxModelLen: 1024, maxSequences: 4, prefillChunk: 32 });
    const { peak: highest, ...now } = llm.memory();
    assert.equal([memory, peak], [now, highest]);
    const { limits, kernelFamily, adapter: opened } = llm.environment;
    assert.equal([adapter.maxBinding, adapter.maxBuffer, adapter.family], [limits["maxStorageBufferBindingSize"], limits["maxBufferSize"], kernelFamily]);
    assert.equal(adapter.adapter, opened);
    if (opened.software) assert.ok(verdict.against!.bytes > 0 && verdict.against!.bytes <= totalmem());
    else assert.is(verdict.against, null);
    await llm.close();
  } finally {
    Runner.prototype.prepare = prepare;
  }
});

test("a budget that is too small: code 4 and the sum it is short of", async () => {
  const { code, stdout } = await dawnlm(["plan", "tiny-qwen2", "--memory", "1MiB"]);
  assert.is(code, 4);
  assert.match(stdout, /\nDoes not fit: it needs \d+ bytes at its highest, \d+ more than the 1048576 given with --memory\.\n/);
  assert.match(stdout, /maxStorageBufferBindingSize/);
});

test.run();
