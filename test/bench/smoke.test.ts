/** `node bench/smoke.ts` with a stand-in for the model: what it says and its exit codes. */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { main, type Smoked } from "../../bench/core/smoke/command.ts";
import { UsageError } from "../../engine/errors.ts";
import type { GenerateResult, LoadOptions, PressReport } from "../../index.ts";
import type { Press } from "../../models/press.ts";

const test = suite("bench/smoke.ts");
const PRESS: PressReport = { name: "knorm(0.5)", events: 1, evicted: 384, kept: [[96, 96], [96, 80]], seen: 192, freedBytes: 12288, ms: 1.25 };

async function smoke(args: readonly string[], press: PressReport | undefined): Promise<{ code: number; text: string; closed: boolean; options?: LoadOptions }> {
  let text = "", closed = false, seen: LoadOptions | undefined;
  const originals = [process.stdout, process.stderr].map((stream) => ({ stream, write: stream.write }));
  for (const { stream } of originals) stream.write = ((chunk: string) => { text += chunk; return true; }) as typeof stream.write;
  const llm: Smoked = {
    source: { id: "stand-in", revision: null, random: false, fingerprint: "0" }, close: async () => { closed = true; },
    tokenizer: { encode: (words) => words.split(" ").map((word) => word.length), decode: () => "the end\nof it" },
    generate: async (ids, { maxNewTokens }): Promise<GenerateResult> => ({
      ids: Array.from({ length: maxNewTokens! }, () => 1), text: " and\x1b[2J so on", promptTokens: ids.length, finishReason: "length", timings: { ttft: 1, total: 2, tpot: 1, itl: [1] },
      stats: { preemptions: 0, cachedTokens: 0, ...(press !== undefined && { press }) },
    }),
  };
  try {
    const code = await main(args, {
      load: async (_, options) => { seen = options; return llm; },
      press: (name, ratio) => {
        if (name !== "knorm") throw new UsageError(`unknown press "${name}", did you mean knorm?`);
        return { name: `knorm(${ratio})` } as Press;
      },
    });
    return { code, text, closed, ...(seen && { options: seen }) };
  } finally {
    for (const { stream, write } of originals) stream.write = write;
  }
}

test("what was kept and freed, and the text without anything that moves a cursor", async () => {
  const { code, text, closed, options } = await smoke(["--max_new_tokens", "3"], PRESS);
  assert.is(code, 0);
  assert.match(text, /^stand-in, knorm\(0\.5\): 192 tokens of Persuasion, 3 new ones, \d+\.\d s with loading\nkept 80 to 96 of 192 entries in each of 4 KV heads \(2 layers\); evicted 384 in 1 act, 1\.3 ms\nfreed 12\.0 KiB of the KV cache\ntext: …the end of it \|and␛\[2J so on\n$/);
  assert.is(closed, true);
  assert.is(options!.maxModelLen, 195);
});

test("nothing evicted is exit code 5; a mistake is 2, before anything is loaded", async () => {
  const idle = await smoke([], { ...PRESS, evicted: 0, events: 0, kept: [] });
  assert.is(idle.code, 5);
  assert.match(idle.text, /INVALID: nothing was evicted: the press acted 0 times on 192 tokens/);
  assert.is((await smoke([], undefined)).code, 5);
  const empty = await smoke([], { ...PRESS, kept: [[0, 0], [0, 0]] });
  assert.equal([empty.code, /INVALID: the press left nothing of 192 tokens in any head/.test(empty.text)], [5, true]);
  const wrong = await smoke(["--press", "knrom"], PRESS);
  assert.equal([wrong.code, wrong.options, /did you mean knorm/.test(wrong.text)], [2, undefined, true]);
  assert.equal((await smoke(["--compression-ratio", "1"], PRESS)).text, 'dawnlm: --compression-ratio: expected a number from 0 below 1, got "1"\n');
});

test.run();
