/** Which formats of the cache LLM.load takes, and what it says of the others before anything is loaded. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../engine/errors.ts";
import { checkLoadOptions } from "../../models/generate_options.ts";
import type { LoadOptions } from "../../models/options.ts";
import { LLM } from "../../index.ts";
import { folderOf } from "../support/llm.ts";
import { rejects } from "../support/rejects.ts";

test("one format, one with its group, or one each for keys and values", () => {
  for (const kv of ["f32", "f16", "bf16", "int8", "int4", { format: "int4", group: 20 }, { k: "f16", v: "int4" }, { k: { format: "int8", group: 8 }, v: "int8" }, "kivi4", { k: "kivi4", v: "f16" }] as const) {
    assert.is(checkLoadOptions({ kv }).kv, kv);
  }
});

test("anything else is refused", () => {
  const wrong: readonly unknown[] = [
    "int2", "kivi2", { k: "f16", v: "kivi4" }, { format: "kivi4", group: 32 }, "INT8", 8, null, [], {}, { k: "int8" }, { v: "int8" }, { k: "int8", v: "int7" }, { k: "int8", v: "int8", group: 8 }, { format: "f16", group: 8 }, { format: "int8" },
    { format: "int8", group: "16" }, { format: "int8", group: 0 }, { format: "int8", group: 7.5 }, { k: { k: "int8", v: "int8" }, v: "int8" },
  ];
  for (const kv of wrong) {
    assert.throws(() => checkLoadOptions({ kv } as LoadOptions), (error: Error) => error instanceof UsageError
      && error.message.startsWith("LLM.load: kv must be one of f32, f16, bf16, int8, int4, "), JSON.stringify(kv));
  }
});

test("a group that does not fit the model is refused with both numbers", async () => {
  const message = /int4 in groups of 20 does not fit a head_dim of 32: a group must be a multiple of 4 that divides it \(4, 8, 16, 32\)/;
  await rejects(LLM.load(folderOf("tiny-neox"), { kv: { k: "int8", v: { format: "int4", group: 20 } } }), UsageError, message);
});

test.run();
