/** Floors against numbers worked out by hand, the table in docs against the code, host time against made-up turns, flags. No GPU. */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dispatchesFloor, floorOf } from "../../bench/core/profile/floors.ts";
import { hostTime, KINDS, type Kind, type Turn } from "../../bench/core/profile/host.ts";
import { measure, type Profile, type Profiled } from "../../bench/core/profile/measure.ts";
import { floorModels, floorsTable, short } from "../../bench/core/profile/models.ts";
import { loadOptionsOf, profileConfig } from "../../bench/core/profile/options.ts";
import { achieved, gain, hostKinds } from "../../bench/core/profile/report.ts";
import { threadClock } from "../../bench/core/profile/thread_clock.ts";
import { summarise } from "../../bench/core/stats.ts";
import { main } from "../../bench/core/profile/command.ts";
import { parseConfig } from "../../models/config.ts";

const test = suite("profile");

/** C = 16, I = 32, V = 10, 2 layers, 2 heads of 8, 1 KV head. */
const QWEN = parseConfig({
  model_type: "qwen2", vocab_size: 10, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, tie_word_embeddings: false,
}, "test");
const NEOX = parseConfig({ model_type: "gpt_neox", vocab_size: 10, hidden_size: 16, intermediate_size: 64, num_hidden_layers: 3, num_attention_heads: 2, rotary_pct: 0.5 }, "test");

test("the floor of a small Qwen, by hand", () => {
  // A layer: q 16·16, k and v 8·16 each, o 16·16, gate, up and down 32·16 each.
  const layer = 256 + 2 * 128 + 256 + 3 * 512, head = 160;
  // Vectors of a layer: two norms of 16, biases of 16 + 8 + 8; one norm at the end.
  const vectors = 4 * (2 * (32 + 32) + 16);
  const { decode, prefill, layerParameters, headParameters } = floorOf(QWEN, { weights: "f16", kv: "f32", context: 5, prompt: 3 });
  assert.equal([layerParameters, headParameters], [2 * layer, head]);
  assert.is(decode.weightBytes, 2 * (2 * layer + head + 16) + vectors);
  assert.is(decode.kvBytes, 6 * 2 * 2 * 8 * 4); // five entries read and one written: K and V, two layers, 8 dims of f32
  assert.is(decode.bytes, decode.weightBytes + decode.kvBytes);
  assert.is(decode.flops, 2 * (2 * layer + head) + 4 * 2 * 2 * 8 * 6);
  assert.is(prefill.weightBytes, 2 * (2 * layer + head + 3 * 16) + vectors);
  assert.is(prefill.kvBytes, 3 * 2 * 2 * 8 * 4);
  assert.is(prefill.flops, 2 * (3 * 2 * layer + head) + 4 * 2 * 2 * 8 * (1 + 2 + 3));
  assert.equal([decode.dispatches, decode.hostCalls], [2 * 5 + 5, 15 * 3 + 9]);
});

test("a tied embedding is read once; a NeoX layer has two products fewer and norms with biases", () => {
  const tied = floorOf({ ...QWEN, tieEmbeddings: true }, { weights: "f32", kv: "f16", context: 0, prompt: 1 });
  assert.is(floorOf(QWEN, { weights: "f32", kv: "f16", context: 0, prompt: 1 }).decode.bytes - tied.decode.bytes, 16 * 4);
  const { decode, layerParameters } = floorOf(NEOX, { weights: "bf16", kv: "f16", context: 0, prompt: 1 });
  assert.is(layerParameters, 3 * (4 * 256 + 2 * 64 * 16));
  // Two norms with gain and bias, biases of qkv, output, up and down; at the end a gain and a bias.
  assert.is(decode.weightBytes - 2 * (layerParameters + 160 + 16), 4 * (3 * (4 * 16 + 48 + 16 + 64 + 16) + 2 * 16));
  assert.is(dispatchesFloor(NEOX), 3 * 3 + 5);
  assert.is(dispatchesFloor({ ...NEOX, parallelResidual: false }), 3 * 5 + 5);
});

test("parameters are those the models are known for", async () => {
  const millions = new Map((await floorModels()).map(({ name, config }) => {
    const { layerParameters, headParameters } = floorOf(config, { weights: "f16", kv: "f16", context: 0, prompt: 1 });
    return [name, Math.round((layerParameters + headParameters * (config.tieEmbeddings ? 1 : 2)) / 1e6)];
  }));
  // Published totals, biases and norms aside: Pythia-70m 70.4, 410m 405.3, 2.8b 2775; Qwen2.5-0.5B 494, 1.5B 1543; Qwen3-0.6B 596, 8B 8190; ours 74.
  const expected: [string, number][] = [["pythia-70m", 70], ["pythia-410m", 405], ["pythia-2.8b", 2775], ["qwen2.5-0.5b", 494], ["qwen2.5-1.5b", 1543], ["qwen3-0.6b", 596], ["qwen3-8b", 8190], ["74 M peer", 74]];
  for (const [name, count] of expected) assert.ok(Math.abs(millions.get(name)! / count - 1) < 0.005, `${name}: ${millions.get(name)} M`);
});

test("docs/floors.md holds the table as the code makes it", async () => {
  const page = readFileSync(new URL("../../docs/floors.md", import.meta.url), "utf8");
  assert.ok(page.includes(await floorsTable({ context: 512, prompt: 512 })), "run `node bench/profile.ts --floors` and put its table there");
});

test("--floors prints that table, and takes nothing that would have no effect", async () => {
  const { write } = process.stdout, { write: writeError } = process.stderr;
  let out = "", err = "";
  process.stdout.write = ((text: string) => { out += text; return true; }) as typeof write;
  process.stderr.write = ((text: string) => { err += text; return true; }) as typeof write;
  try {
    assert.is(await main(["--floors", "--prompt", "64"]), 0);
    assert.is(out, `${await floorsTable({ context: 64, prompt: 64 })}\n`);
    assert.is(await main(["--floors", "--new", "4", "--roof"]), 2);
    assert.is(err, "dawnlm: --floors: prints what follows from configs and measures nothing, so --new, --roof would have no effect\n");
  } finally {
    process.stdout.write = write;
    process.stderr.write = writeError;
  }
});

test("flags: defaults, values, and a line for each mistake", () => {
  assert.equal(profileConfig({}, []).repetitions, 5);
  const config = profileConfig({ concurrency: "1,8,32", kvMemory: "1GB", model: "random:pythia-70m", seed: "2", prefillChunk: "128", save: false }, []);
  assert.equal([config.concurrency, config.save], [[1, 8, 32], false]);
  assert.equal(loadOptionsOf(config), { weights: "auto", kv: "f16", adapter: "auto", prefixCache: false, maxSequences: 32, kvMemory: 1e9, prefillChunk: 128, seed: 2 });
  for (const [flags, message] of [
    [{ prompt: "0" }, /^--prompt: expected a whole number from 1 to 1000000, got "0"$/], [{ concurrency: "1,1" }, /^--concurrency: expected whole numbers/], [{ concurrency: "" }, /^--concurrency/],
    [{ new: "1.5", repetitions: "x" }, /^--new: .*\n--repetitions: .*$/],
  ] as const) {
    assert.throws(() => profileConfig(flags, []), (error: Error) => message.test(error.message));
  }
});

const spentOn = (spent: Partial<Record<Kind, number>>): Turn["spent"] => ({ poll: 0, read: 0, encode: 0, submit: 0, map: 0, write: 0, other: 0, ...spent });

test("host time is that of the turns between first and last token, per token", () => {
  const turns: Turn[] = [
    { start: 0, end: 5, spent: spentOn({ encode: 4 }) }, // the prefill
    { start: 10, end: 12, spent: spentOn({ encode: 0.5, submit: 0.25, other: 0.25 }) },
    { start: 20, end: 21, spent: spentOn({ read: 0.5, other: 0.5 }) },
    { start: 29, end: 31, spent: spentOn({ other: 2 }) },
  ];
  const time = hostTime(turns, 10, 30, 4)!;
  assert.equal([time.perToken, time.wallPerToken, time.turnsPerToken], [500, 750, 0.5]);
  assert.equal(KINDS.map((kind) => time.byKind[kind]), [0, 125, 125, 62.5, 0, 0, 187.5]);
  assert.equal([hostTime(turns, 10, 30, 0), hostTime([], 0, 9, 3), hostTime(turns, 100, 200, 3)], [null, null, null]);
});

test("the thread's clock counts work and not waiting", async () => {
  const { now, cost, isCpu } = await threadClock();
  assert.ok(isCpu, "no thread clock on this system");
  assert.ok(cost > 0 && cost < 0.1, `${cost} ms a reading`);
  let from = now();
  await sleep(100);
  const waiting = now() - from;
  from = now();
  const began = performance.now();
  let sum = 0;
  for (let i = 0; now() - from < 30; i++) sum += Math.sqrt(i);
  const working = now() - from;
  assert.ok(sum > 0 && waiting < 30, `${waiting} ms of work while waiting 100 ms`);
  assert.ok(working >= 30 && performance.now() - began >= working - 1, `${working} ms of work in ${performance.now() - began} ms`);
});

test("what was reached, the gain of running together, three digits", () => {
  const { decode } = floorOf(QWEN, { weights: "f16", kv: "f16", context: 0, prompt: 1 });
  assert.equal(achieved(decode, 0.5), { gigabytesPerSecond: decode.bytes / 0.5 / 1e9, gigaflops: decode.flops / 0.5 / 1e9 });
  assert.equal([achieved(decode, null), achieved(decode, 0)], [null, null]);
  const together = (...rates: number[][]) => ({ concurrency: rates.map((samples, i) => ({ atATime: 1 + i, requests: 2, tokensPerSecond: summarise(samples) })) }) as unknown as Profile;
  assert.is(gain(together([10, 20, 10], [30, 40, 50])), 3); // 3, 2 and 5 times
  assert.equal([gain(together([10])), gain(together([], []))], [null, null]);
  assert.is(hostKinds({ host: { repetitions: [3, 1, 2].map((perToken) => ({ perToken, byKind: spentOn({ other: perToken }) })) } } as unknown as Profile)!.other, 2);
  assert.equal([short(0), short(1234.6), short(12.345), short(0.0012345)], ["0", "1235", "12.3", "0.00123"]);
});

test("a request longer than the context is refused with the numbers", async () => {
  const llm = { maxModelLen: 64, config: { vocabSize: 10, eosTokenIds: [], bosTokenId: null }, tokenizer: { vocabSize: 10, encode: () => [] } } as unknown as Profiled;
  const options = { clock: await threadClock(), signal: new AbortController().signal, onStep: () => {} };
  await measure(llm, profileConfig({ prompt: "60", new: "4" }, []), options).then(() => assert.unreachable(), (error: Error) => {
    assert.match(error.message, /--prompt 60 and --new 4 need 65 tokens, but a sequence has room for 64/);
  });
});

test.run();
