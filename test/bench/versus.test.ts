/** Two results side by side: what is told, what is refused, and of what nothing is said. How often it is wrong, versus_simulation.test.ts tells. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LANGUAGES } from "../../bench/core/lang/words.ts";
import { protocolOf, sha256Of } from "../../bench/core/protocol.ts";
import type { Result, ResultArm } from "../../bench/core/result.ts";
import { seeded } from "../../bench/core/stats.ts";
import { FAMILY_LEVEL, familyChances, type Series } from "../../bench/core/versus/chance.ts";
import { isBeyond, machineShift, percentOf, ratioOf } from "../../bench/core/versus/floor.ts";
import { sentences, versusJson, versusText } from "../../bench/core/versus/report.ts";
import { versus } from "../../bench/core/versus/versus.ts";
import { main } from "../../bench/core/versus/command.ts";
import { UsageError } from "../../engine/errors.ts";
import { FAKE_ARMS, fakeResult, type FakeOverrides } from "../support/results.ts";

const test = suite("versus");
const { en, zh } = LANGUAGES;

/** One group has arms of every kind. */
const ONE_GROUP = FAKE_ARMS.filter(({ group }) => group === "wikitext-2");

const KEPT = ["ttft_ms", "tpot_ms", "itl_p99_ms", "latency_ms", "output_tokens_per_s"];
/** The other metrics would only take time. */
const kept = <T>(metrics: Readonly<Record<string, T>>): Record<string, T> => Object.fromEntries(Object.entries(metrics).filter(([key]) => KEPT.includes(key)));

function run(overrides: FakeOverrides = {}, edit: (result: Result) => Result = (result) => result): Result {
  const whole = fakeResult({ arms: ONE_GROUP, ...overrides });
  const result = edit({ ...whole, arms: whole.arms.map((arm) => ({ ...arm, metrics: kept(arm.metrics), differences: kept(arm.differences) })) }), protocol = protocolOf(result.config, result);
  return { ...result, protocol, protocolSha256: sha256Of(protocol) };
}
/** Another commit, so that a baseline may change by more than drift. */
const later = (result: Result): Result => ({ ...result, started: "2026-02-02T00:00:00.000Z", machine: { ...result.machine, commit: "beef".repeat(10) } });
const editArm = (name: string, edit: (arm: ResultArm) => ResultArm) => (result: Result): Result => ({ ...result, arms: result.arms.map((arm) => (arm.name === name ? edit(arm) : arm)) });
const toldOf = (a: Result, b: Result) => {
  const { rows, effects } = versus(a, b);
  return { rows: rows.filter(({ say }) => say === "told"), effects: effects.filter(({ say }) => say === "told") };
};
const said = (a: Result, b: Result): string => sentences(versus(a, b), en).join("\n");
const A = run();

test("two runs of the same config: no measurable difference, and what must be the same is", () => {
  const text = said(A, run({ seed: 2 }));
  assert.match(text, /No measurable difference in any of 30 comparisons\./);
  assert.match(text, /same commit on the same machine/);
  assert.match(text, /Quality is the same to the last digit, in 14 figures\.\nTexts, counts and bytes that must be the same are the same\./);
});

test("faster software is told of every arm at once, in the right direction, and no effect with it", () => {
  const b = run({ seed: 2, speed: 1.3 }, later), { effects } = toldOf(A, b);
  assert.is(effects.length, 0);
  assert.match(said(A, b), /In all 6 arms: output throughput is higher in B, better \(\+2\d\.\d % to \+3\d\.\d %\)/);
  assert.match(said(A, b), /In all 6 arms: TTFT is lower in B, better/);
  assert.match(said(b, A), /In all 6 arms: output throughput is lower in B, worse/);
  assert.not.match(said(A, b), /No measurable difference/);
});

test("the same change without a new commit is drift; a machine of another speed is told as that", () => {
  assert.match(said(A, run({ seed: 2, speed: 1.3 })), /No measurable difference/);
  const slow = run({ seed: 2, machineSpeed: 0.5 }, later);
  assert.equal(toldOf(A, slow), { rows: [], effects: [] });
  assert.match(said(A, slow), /The machine itself was not as fast in both: the same small work took \+9\d\.\d % to \+10\d\.\d % time in B/);
});

const slowed = (arms: FakeOverrides["arms"], name: string, by: number) => arms!.map((arm) => (arm.name === name ? { ...arm, speed: (arm.speed ?? 1) / by } : arm));
const ARMS: FakeOverrides["arms"] = ["none", "none again", "one", "two", "three"].map((name, i) => ({ name, role: i === 0 ? "baseline" : i === 1 ? "control" : "technique", settings: {} }));

test("one arm that got slower is told by itself, against itself and against its baseline, even on a machine of another speed", () => {
  const a = run({ arms: ARMS, noise: 0.03 }), b = (machineSpeed: number) => run({ arms: slowed(ARMS, "two", 1.3), noise: 0.03, seed: 3, machineSpeed }, later);
  const { rows, effects } = toldOf(a, b(1));
  assert.equal([...new Set([...rows, ...effects].map(({ arm }) => arm))], ["two"]);
  assert.equal(rows.map(({ metric }) => metric).sort(), ["output_tokens_per_s", "tpot_ms"]);
  assert.match(said(a, b(1)), /two: TPOT is (2|3)\d\.\d % higher in B, worse \(\+.*; noise floor \d+\.\d %\)/);
  assert.match(said(a, b(1)), /two against none, TPOT: .* in A, \+.* in B; the effect itself is another/);
  const slow = toldOf(a, b(0.6));
  assert.equal([slow.rows, [...new Set(slow.effects.map(({ arm }) => arm))]], [[], ["two"]]);
});

test("without a yardstick in both, or on other machines, nothing absolute is told; what techniques do to their baseline is", () => {
  const a = run({ arms: ARMS }), slow = slowed(ARMS, "two", 1.3);
  for (const [edit, why] of [
    [(result: Result) => ({ ...result, yardstick: null }), /did not look at how fast its machine was/],
    [(result: Result) => ({ ...result, yardstick: { ...result.yardstick!, work: "gpu 1" } }), /different yardsticks/],
    [(result: Result) => ({ ...result, machine: { ...result.machine, cpu: "another" } }), /ran on different machines/],
  ] as const) {
    const b = run({ arms: slow, seed: 3 }, (result) => edit(later(result))), { rows, effects } = toldOf(a, b);
    assert.equal([rows.length, [...new Set(effects.map(({ arm }) => arm))]], [0, ["two"]]);
    assert.match(said(a, b), why);
  }
});

test("too few iterations are not judged, and metrics that are not judged are shown", () => {
  const few = run({ seed: 2, speed: 2, iterations: 4 }, later);
  assert.equal(toldOf(A, few), { rows: [], effects: [] });
  assert.match(said(A, few), /Nothing can be said about speed.*\n30 comparisons had fewer than 5 iterations/);
  const shown = versus(A, run({ seed: 2, speed: 2 }, later)).rows.find(({ metric }) => metric === "latency_ms")!;
  assert.is(shown.say, "shown");
  assert.ok(percentOf(shown.ratio.median) < -40);
});

test("of an arm that is invalid, or changed a text it must not, in either run, nothing else is said", () => {
  const name = "wikitext-2 snapkv 0.5", b = run({ seed: 2, speed: 3 }, (result) => later(editArm(name, (arm) => ({ ...arm, invalid: "nothing was evicted", memory: null }))(result)));
  const text = said(A, b);
  assert.equal(text.split("\n").filter((line) => line.includes(name)), [`${name}: nothing is said. In B it is INVALID: nothing was evicted.`]);
  assert.match(text, /broken draft: nothing is said\. In both it changed what it must not change: 3 of 28 texts/);
  assert.not.ok(versus(A, b).rows.some(({ arm }) => arm === name || arm === "wikitext-2 broken draft"));
  const base = versus(A, run({ seed: 2 }, editArm("wikitext-2 none", (arm) => ({ ...arm, invalid: "x" }))));
  assert.not.ok(base.effects.length > 0, "without its baseline an effect is none");
});

test("counts, bytes and proofs that differ are facts; sentences with times in them are not", () => {
  const name = "wikitext-2 snapkv 0.5", b = run({ seed: 2 }, editArm(name, (arm) => ({
    ...arm, engagement: "255 of 512 entries evicted", memory: { ...arm.memory!, kv: 1 }, facts: [{ label: "entries kept", value: "257 of 512" }, { label: "scoring", value: "3.4 ms" }],
    proof: { ...arm.proof!, text: "other" },
  })));
  assert.equal(versus(A, b).facts.map(({ what, b: now }) => [what, now]), [["proof", "lossy: other"], ["engagement", "255 of 512 entries evicted"], ["memory kv", "1 B"], ["entries kept", "257 of 512"]]);
  assert.match(said(A, b), /As a matter of fact:\n.*proof/);
  const translated = { ...b, config: { ...b.config, lang: "zh" as const } };
  assert.equal(versus(A, translated).facts.map(({ what }) => what), ["memory kv"], "sentences in two languages differ anyhow");
});

test("quality differs when it is more than its errors explain", () => {
  const name = "wikitext-2 snapkv 0.5", by = (percent: number) => run({ seed: 2 }, editArm(name, (arm) => ({ ...arm, quality: { ...arm.quality!, change: { percent, error: 0.4, claimed: true } } })));
  const saysOf = (b: Result) => versus(A, b).quality.filter(({ arm, what }) => arm === name && what === "change").map(({ say }) => say);
  assert.equal([1.9, 2.5, 5].map((percent) => saysOf(by(percent))), [["same"], ["within"], ["told"]]);
  assert.match(said(A, by(5)), /snapkv 0\.5, perplexity against the baseline, %: 1\.9 ± 0\.4 in A, 5 ± 0\.4 in B/);
});

const refusal = (a: Result, b: Result): string => {
  try {
    versus(a, b);
  } catch (error) {
    assert.instance(error, UsageError);
    return (error as Error).message;
  }
  return "";
};

test("other work is refused with everything that differs; an arm that an interrupted run did not reach is not", () => {
  assert.is(refusal(A, run({ seed: 2, config: { max_tokens: 9, seed: 4 } as Result["config"] })), "they did not do the same work, and cannot be compared:\nmax_tokens: A 64, B 9\nseed: A 0, B 4");
  const short = run({ seed: 2 }, (result) => ({ ...result, arms: result.arms.filter(({ name }) => name !== "wikitext-2 prompt-lookup") }));
  assert.match(refusal(A, short), /arms\.wikitext-2 prompt-lookup: A \{"group":"wikitext-2".*, B not there/);
  assert.match(said(A, { ...short, status: "interrupted" }), /^B: INTERRUPTED\. Compared is what was measured before\.[^]*wikitext-2 prompt-lookup: nothing is said\. B does not have it\./);
});

test("the same run twice is refused, also when something beside the samples was touched", () => {
  assert.match(refusal(A, A), /both are the same run/);
  assert.match(refusal(A, { ...A, started: "later", notes: [] }), /both are the same run/);
});

test("what is different about the runs is listed: commit, adapter, versions, iterations", () => {
  const b = run({ seed: 2, iterations: 9 }, (result) => later({
    ...result, environment: { ...result.environment, adapter: { ...result.environment.adapter, description: "llvmpipe (LLVM 16)" } }, machine: { ...result.machine, node: "v25.0.0", modified: true },
  }));
  assert.equal(versus(A, b).different.map(({ key }) => key).sort(), ["adapter.description", "commit", "iterations", "modified", "node", "started"]);
  assert.match(said(A, b), /B: made from changed files/);
});

const noise = (random: () => number, by = 0): number => Math.log(1 + 0.03 * (random() + random() + random() - 1.5) * 2) + by;
const series = (random: () => number, count: number, at: number, by: number): Series[] => Array.from({ length: count }, (_, i) => ({
  a: Array.from({ length: at }, () => noise(random)), b: Array.from({ length: at }, () => noise(random, i === 0 ? by : 0)), floor: 0,
}));

test("forty comparisons of equal runs: intervals find something mostly, the family-wise rule hardly ever, and a true change it finds", () => {
  for (const at of [5, 7]) {
    const random = seeded(at), tries = 12;
    let naive = 0, wrong = 0, found = 0;
    for (let i = 0; i < tries; i++) {
      const family = series(random, 40, at, 0);
      if (family.some(({ a, b }) => isBeyond(ratioOf(a, b)!, 0))) naive++;
      if (familyChances(family).some((chance) => chance <= FAMILY_LEVEL)) wrong++;
      const chances = familyChances(series(random, 40, at, Math.log(1.3)));
      if (chances[0]! <= FAMILY_LEVEL) found++;
    }
    assert.ok(naive >= 0.5 * tries, `${at}: ${naive}`);
    assert.ok(wrong <= 0.1 * tries, `${at}: ${wrong}`);
    assert.ok(found >= (at === 5 ? 0.6 : 0.9) * tries, `${at}: ${found}`);
  }
});

test("a chance is of being beyond the floor, and missing values count as none", () => {
  const [first, ...rest] = series(seeded(1), 10, 7, Math.log(1.3)) as [Series, ...Series[]];
  assert.ok(familyChances([first, ...rest])[0]! <= FAMILY_LEVEL);
  assert.ok(familyChances([{ ...first, floor: Math.log(1.29) }, ...rest])[0]! > 0.1);
  assert.is(familyChances([{ ...first, floor: 1 }, ...rest])[0], 1);
  assert.ok(familyChances([{ ...first, a: first.a.map((value, i) => (i === 2 ? null : value)) }, ...rest])[0]! <= FAMILY_LEVEL);
  assert.equal(familyChances([{ a: [null, null], b: [1, 2], floor: 0 }]), [1]);
  assert.equal(familyChances([]), []);
});

test("the machine's floor covers what it moved by half as much again, what it swayed, and how unevenly", () => {
  const yards = (computeMs: number, memoryMs: number, sway = 0) => ({ work: "w", yards: Array.from({ length: 7 }, (_, i) => ({ computeMs: computeMs * (1 + sway * (i % 2)), memoryMs, hostMs: 1 })) });
  const shift = machineShift(yards(1, 1), yards(2, 1));
  assert.ok(typeof shift === "object" && Math.abs(shift.floor.log - 1.5 * Math.log(2)) < 1e-9 && Math.abs(shift.uneven.log - Math.log(2)) < 1e-9);
  const swaying = machineShift(yards(1, 1, 0.5), yards(1, 1, 0.5));
  assert.ok(typeof swaying === "object" && swaying.floor.log > Math.log(1.5) / 2 - 1e-9);
  assert.is(machineShift(null, yards(1, 1)), "none");
  assert.is(machineShift(yards(0, 1), yards(1, 1)), "none");
});

test("as text in both languages and as JSON", () => {
  const b = run({ seed: 2, speed: 1.3 }, later), sides = [{ path: "a", result: A }, { path: "b", result: b }] as const, found = versus(A, b);
  for (const [words, start] of [[en, "KVPress: two runs of fake\nA: a (2026-01-02"], [zh, "KVPress：fake 的两次运行\nA：a（2026-01-02"]] as const) {
    const [short, long] = [false, true].map((all) => versusText(found, ...sides, { words, all }));
    assert.ok(short!.startsWith(start), short!.slice(0, 80));
    assert.not.match(short!, /undefined|NaN|\[object/);
    assert.ok(long!.includes(words.metrics.itl_p99_ms) && !short!.includes(words.metrics.itl_p99_ms));
    assert.ok(short!.indexOf(words.versus.verdict) < short!.indexOf(words.versus.heads.speeds));
  }
  const json = JSON.parse(versusJson(found, ...sides, en)) as { verdict: string[]; rows: { arm: string; say: string; changePercent: { median: number } }[]; a: { protocolSha256: string } };
  assert.is(json.a.protocolSha256, A.protocolSha256);
  assert.ok(json.rows.some(({ say, changePercent: { median } }) => say === "told" && Math.abs(median - 30) < 5));
});

const FOLDER = mkdtempSync(join(tmpdir(), "dawnlm-versus-"));
test.after(() => { rmSync(FOLDER, { recursive: true, force: true }); });

/** The command with its output and exit code. */
async function command(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err] = [process.stdout.write, process.stderr.write], heard = { out: "", err: "" };
  process.stdout.write = ((text: string) => { heard.out += text; return true; }) as typeof process.stdout.write;
  process.stderr.write = ((text: string) => { heard.err += text; return true; }) as typeof process.stderr.write;
  try {
    return { code: await main(argv), ...heard };
  } finally {
    process.stdout.write = out;
    process.stderr.write = err;
  }
}

test("the command: exit codes 0, 2 and 5, and a line for everything that is wrong", async () => {
  const file = (name: string, result: Result): string => {
    mkdirSync(join(FOLDER, name), { recursive: true });
    writeFileSync(join(FOLDER, name, "result.json"), JSON.stringify(result));
    return join(FOLDER, name);
  };
  const a = file("a", A), b = file("b", run({ seed: 2 })), other = file("other", run({ seed: 2, config: { max_tokens: 9, seed: 4 } as Result["config"] }));
  const equal = await command(a, b);
  assert.is(equal.code, 0);
  assert.match(equal.out, /No measurable difference/);
  assert.match((await command(a, b, "--lang", "zh")).out, /没有可测量的差异/);
  assert.is((JSON.parse((await command(a, join(b, "result.json"), "--json")).out) as { kind: string }).kind, "dawnlm comparison");
  const refused = await command(a, other);
  assert.equal([refused.code, refused.out, refused.err.split("\n").slice(1, 3)], [2, "", ["dawnlm: max_tokens: A 64, B 9", "dawnlm: seed: A 0, B 4"]]);
  assert.is((await command(a, a)).code, 2);
  assert.is((await command(a, b, "--lang", "fr")).code, 2);
  assert.is((await command(a)).code, 2);
  const invalid = await command(a, file("invalid", { ...run({ seed: 2 }), status: "invalid" }));
  assert.is(invalid.code, 5);
  assert.match(invalid.out, /B: INVALID as a whole/);
});

test.run();
