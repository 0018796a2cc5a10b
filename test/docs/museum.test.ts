/**
 * The museum, without a GPU: every exhibit misleads, as it says, and the gate of the benchmark catches it; and where the same measurement
 * is made well, or the difference is there, the gate lets it pass. Times are those of clocks that are played. The two exhibits that need
 * a model are in museum.gpu.test.ts.
 */

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gateAxes } from "../../bench/core/gates.ts";
import { en } from "../../bench/core/lang/en.ts";
import { seeded } from "../../bench/core/stats.ts";
import { exhibit as clippedAxis } from "../../docs/museum/clipped_axis/exhibit.ts";
import { exhibit as coldStart, type Service } from "../../docs/museum/cold_start/exhibit.ts";
import { exhibit as earlyEos } from "../../docs/museum/early_eos/exhibit.ts";
import { labelled } from "../../docs/museum/hall.ts";
import { exhibit as lostK } from "../../docs/museum/lost_k/exhibit.ts";
import { exhibit as maxLengthWaste } from "../../docs/museum/max_length_waste/exhibit.ts";
import { exhibit as meanOfLosses, type Reader } from "../../docs/museum/mean_of_losses/exhibit.ts";
import { gateAcceptance, phantomsOf } from "../../docs/museum/wrong_acceptance/exhibit.ts";
import type { SpeculationStats } from "../../index.ts";
import { ENTRY_BYTES, fakeLoad } from "../support/fake_llm.ts";
import { fakeSpecLoad, type FakeSpecOptions } from "../support/fake_spec.ts";
import { node, ROOT } from "./guide.ts";

const COLD = 1000, WARM = 100;

test("cold start: nothing at all takes off nine tenths, and is no measurable difference after warm-up, in turns", async () => {
  let opened = 0, closed = 0;
  const open = (): Service => {
    const random = seeded(++opened);
    let asked = 0;
    return {
      firstToken: () => Promise.resolve((asked++ === 0 ? COLD : WARM) * (1 + 0.05 * random())),
      close: () => { closed++; return Promise.resolve(); },
    };
  };
  const { misleading, honest, gate } = await coldStart({ open });
  assert.ok(misleading.change < -80, misleading.says);
  assert.match(gate ?? "", /^TTFT: no measurable difference/);
  assert.not.ok(honest.technique.measurable);
  assert.ok(Math.abs(honest.technique.median) < 5);
  const firsts = Object.values(honest.warmUp.arms).map(([time]) => time!).sort((a, b) => a - b);
  assert.ok(firsts[2]! >= COLD && firsts[1]! < 2 * WARM, "one arm pays for the cold start, whichever comes first, and only in warm-up");
  assert.equal([opened, closed], [2, 2]);
});

test("lost K: a sweep that sweeps nothing makes a falling curve; the gate lets only the K pass that arrived", async () => {
  const ks = [3, 5, 8], load = (fake: FakeSpecOptions) => fakeSpecLoad(fake)("m", { draft: { model: "tiny-neox-draft", k: 5 } });
  const { misleading, honest, gate } = await lostK({ llm: await load({}), ks });
  const [three, five, eight] = misleading.rows;
  assert.equal(three!.stats, eight!.stats, "one run, three times");
  assert.ok(three!.acceptance > five!.acceptance && five!.acceptance > eight!.acceptance, misleading.says);
  assert.equal(honest.lost.map((reason) => reason === null), [false, true, false]);
  assert.equal(honest.arrived, [null, null, null]);
  assert.not.equal(honest.rows[0]!.stats, honest.rows[2]!.stats);
  assert.is(gate, `K = 3: ${en.spec.draftedMore("5", "3")}\nK = 8: ${honest.lost[2]}`);
  assert.match(honest.lost[2]!, /K did not reach the draft/);
  const stuck = await lostK({ llm: await load({ stuckK: 4 }), ks });
  assert.ok(stuck.honest.arrived.every((reason) => reason !== null), "a draft that listens to nobody is caught when it is asked, too");
});

const stats = (draftedAt: readonly number[], acceptedAt: readonly number[], rounds: number, cut = 0): SpeculationStats => {
  const sum = (counts: readonly number[]): number => counts.reduce((all, one) => all + one, 0);
  const [drafted, accepted] = [sum(draftedAt), sum(acceptedAt)];
  const times = { draftMs: 0, verifyMs: 0, hostMs: 0 };
  return { draft: "d", rounds, drafted, accepted, draftedAt, acceptedAt, tokens: accepted + rounds - cut, ...times };
};

test("wrong acceptance: what the formula counts beside drafted tokens, in whole numbers; it passes where it counts nothing else", () => {
  const short = stats([10, 6, 2], [8, 5, 2], 10, 1), steps = 3 + 4 + 10, written = 1 + 4 + short.tokens;
  const formula = { k: 5, steps, tokens: written + 2 }, printed = (formula.tokens / steps - 1) / 5;
  const phantoms = phantomsOf(short, written, formula);
  assert.equal(phantoms, { of: 85, missing: 32, noRound: 35, cut: 1, idle: 2, encoded: 2 });
  assert.is(short.drafted + phantoms.missing + phantoms.noRound, phantoms.of);
  const { of, cut, idle, encoded } = phantoms;
  assert.ok(Math.abs(printed - (short.accepted - cut - idle + encoded) / of) < 1e-12, "the formula is this fraction");
  assert.ok(printed < 0.25 && short.accepted / short.drafted > 0.8);
  const said = gateAcceptance(printed, short, phantoms) ?? "";
  const parts = ["15 of 18 drafted", "32 are missing", "35 stand for", "2 are taken off", "1 were accepted and cut", "2 come from"];
  for (const part of parts) assert.ok(said.includes(part), said);

  const whole = stats([10, 10], [7, 5], 10), exact = { k: 2, steps: 10, tokens: whole.tokens };
  assert.is(gateAcceptance((whole.tokens / 10 - 1) / 2, whole, phantomsOf(whole, whole.tokens, exact)), null);
  const none = stats([], [], 0);
  assert.match(gateAcceptance(0, none, phantomsOf(none, 9, { k: 2, steps: 9, tokens: 9 })) ?? "", /^nothing was drafted/);
});

test("early EOS: faster per request and slower per token at once; the gate says who wrote less, and fixed work passes it", async () => {
  const models = { baseline: await fakeLoad()("m", {}), technique: await fakeLoad({ eosAfter: 10 })("m", {}) };
  const { misleading, honest, gate } = await earlyEos({
    prompts: 3, iterations: 5,
    answer: (arm, prompt, ignoreEos) => models[arm].generate([1, 2, 3 + prompt], { maxNewTokens: 32, ignoreEos }),
  });
  assert.ok(misleading.latency < -50 && misleading.throughput < -15, misleading.says);
  assert.match(misleading.says, /faster\.\n.*slower/);
  assert.is(gate, en.gates.otherLength(1, 10, 32));
  assert.is(honest.gate, null);
  assert.equal([honest.latency.median, honest.latency.measurable], [0, false]);
});

test("clipped axis: the picture shows a ratio that the values do not have; bars on zero show the true one and pass", async () => {
  const bars = [72.32, 72.31, 74.54].map((value, i) => ({ label: `w${i}`, value, percent: 100 * (value / 72.32 - 1), error: 0.5 }));
  const { misleading, honest, gate } = await clippedAxis({ bars }), truth = 74.54 / 72.31;
  assert.ok(misleading.ratio > 1.5 && truth < 1.04, misleading.says);
  assert.ok(Math.abs(honest.ratio - truth) < 0.02, honest.says);
  assert.match(gate ?? "", /^the bars of "perplexity" begin at 68\.69, not at zero/);
  assert.is(gateAxes(honest.spec, en), null);
});

test("max-length waste: so many times faster at equal memory, nothing at equal batch, and the gate asks for that", async () => {
  const { misleading, honest, gate } = await maxLengthWaste({ load: (options) => fakeLoad()("m", options), tokenBytes: ENTRY_BYTES });
  assert.ok(misleading.throughput.measurable && misleading.throughput.median > 100, misleading.says);
  assert.is(misleading.running["contiguous-max"], 2);
  assert.ok(misleading.running["paged"]! > 2, "it is the batch");
  assert.equal(honest.running, { "contiguous-max": 2, "contiguous-exact": 2, paged: 2 });
  assert.match(gate ?? "", /at equal batch.*no measurable difference/);
  assert.ok(honest.waste["contiguous-max"]! > 0.7 && honest.waste["paged"]! < 0.3);
  assert.is(honest.paging, null, "paging did act");
});

/** Losses of one model on paragraphs of these lengths; `more`: what is added to each token of a paragraph. */
const reader = (name: string, lengths: readonly number[], more: (length: number, token: number) => number): Reader => ({
  name,
  paragraphs: lengths.map((length) => ({ letters: 4 * length, nlls: Array.from({ length }, (_, i) => 4 + Math.sin(i) + more(length, i)) })),
});

test("mean of losses: a ranking that turns over with the weights, a difference within its error; a true one passes", async () => {
  const lengths = [20, 60, 70, 60, 500, 400, 30, 80];
  const plain = reader("plain", lengths, () => 0);
  // Better on short paragraphs, worse on long ones, by less than tokens differ.
  const other = reader("other", lengths, (length, token) => (length < 100 ? -0.02 : 0.02) + 0.4 * Math.cos(2.3 * token));
  const { misleading, honest, gate } = await meanOfLosses({ readers: [plain, other] });
  assert.equal(misleading.ranking.map(({ name }) => name), ["other", "plain"]);
  assert.equal(honest.ranking.map(({ name }) => name), ["plain", "other"], "by tokens it is the other way round");
  assert.match(gate ?? "", /^perplexity of plain over that of other: .*no difference beyond two standard errors$/);
  const worse = await meanOfLosses({ readers: [plain, reader("worse", lengths, (_, token) => 0.3 + 0.1 * Math.cos(token))] });
  assert.is(worse.gate, null);
  assert.match(worse.honest.says, /perplexity of worse over that of plain: .*higher, worse/);
});

const MUSEUM = join(ROOT, "docs/museum");
const exhibits = readdirSync(MUSEUM).filter((name) => statSync(join(MUSEUM, name)).isDirectory());

test("every exhibit is in the entrance, says how it is run and where its gate is", () => {
  const entrance = readFileSync(join(MUSEUM, "README.md"), "utf8");
  assert.is(exhibits.length, 8);
  for (const name of exhibits) {
    assert.ok(entrance.includes(`](${name}/README.md)`), `the entrance leads to ${name}`);
    const page = readFileSync(join(MUSEUM, name, "README.md"), "utf8");
    assert.ok(page.includes(`node docs/museum/${name}/exhibit.ts`), `${name}: the command`);
    for (const [, target] of page.matchAll(/\]\((?!http)([^)#]+)\)/g)) {
      assert.ok(existsSync(join(MUSEUM, name, target!)), `${name}: ${target} is there`);
    }
    for (const picture of readdirSync(join(MUSEUM, name)).filter((file) => /\.(png|svg)$/.test(file))) {
      assert.ok(statSync(join(MUSEUM, name, picture)).size <= 60_000, `${picture} is small`);
      assert.ok(page.includes(`(${picture})`) || picture.endsWith(".svg"), `${picture} is shown`);
    }
  }
});

test("an exhibit is shown in three parts, and one that its gate lets pass says so", () => {
  const found = { misleading: { says: "+9 %" }, honest: { says: "0 %" }, gate: "noise" };
  const parts = ["Title\n=====\n", "What the measurement says\n  +9 %\n", "What is true\n  0 %\n", "What the gate says\n  noise\n"];
  assert.is(labelled("Title", found), parts.join("\n"));
  assert.match(labelled("Title", { ...found, gate: null }), /it let this pass/);
});

test("an exhibit is a program: it knows --help, and refuses what it does not know", async () => {
  const path = join(MUSEUM, "clipped_axis/exhibit.ts");
  const help = await node(ROOT, [path, "--help"]), wrong = await node(ROOT, [path, "--fast"]);
  assert.is(help.code, 0, help.output);
  assert.match(help.output, /The clipped axis/);
  assert.is(wrong.code, 2, wrong.output);
});

test.run();
