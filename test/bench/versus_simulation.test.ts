/**
 * How often `compare` claims something of two runs of the same config, and how often it finds what is true, on a simulated machine that is
 * worse than most: log-normal noise of 1 to 5 %, spikes in 5 % of the samples (a fifth to three times as long), a wander within the run,
 * arms that stay 1 % off for a whole run (memory lies elsewhere, a pipeline was tuned otherwise), and drift between the runs up to 2× that
 * the yardsticks see only roughly (their parts by 0.7 to 1.3 times as much in logarithms). Seeded: the figures are the same every time.
 *
 * More than the test has time for: `node test/bench/versus_simulation.test.ts 200` compares 200 pairs of runs of 3 to 25 arms in each world.
 * Equal runs of 5 to 15 iterations on a restless machine, on a quiet one, and of 5 to 7 iterations: none of 3 × 200 comparisons claims
 * anything. One arm 30 % slower, 7 iterations, 3 % noise: found in 94 %, in no other arm ever; in 55 % where the machine is up to twice as
 * slow in the second run and its yardsticks disagree by how much; in 41 % where 3 % of the samples are spikes, as the equal arms of seven
 * iterations then differ by as much. What restrains it is the noise floor more than the rule for the family: more iterations lower it.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { MetricKey } from "../../bench/core/lang/en.ts";
import type { Result, ResultArm, ResultMetric } from "../../bench/core/result.ts";
import { change, seeded, summarise } from "../../bench/core/stats.ts";
import type { Row } from "../../bench/core/versus/speeds.ts";
import { versus, type Versus } from "../../bench/core/versus/versus.ts";
import { fakeResult } from "../support/results.ts";

interface World {
  readonly arms: number;
  readonly iterations: readonly [a: number, b: number];
  /** Standard deviation of the logarithm. */
  readonly noise: number;
  readonly spikes: number;
  /** By how much, in logarithms, B's machine is slower. */
  readonly drift: number;
  /** Of an arm's offset that lasts a run, and of the steps of the wander. */
  readonly offset: number;
  readonly wander: number;
  /** How many times as long the last arm takes for a token in B. */
  readonly factor: number;
  readonly sameCommit: boolean;
}

const EMPTY = fakeResult({ arms: [] }), PROTOCOL = {};
const METRICS = ["ttft_ms", "tpot_ms", "output_tokens_per_s"] as const satisfies readonly MetricKey[];

function pairOf(world: World, random: () => number): readonly [Result, Result] {
  const parts = [0.7 + 0.6 * random(), 0.7 + 0.6 * random(), 0.7 + 0.6 * random()] as const;
  return [runOf(world, { random, run: 0, parts }), runOf(world, { random, run: 1, parts })];
}

function runOf(world: World, { random, run, parts }: { readonly random: () => number; readonly run: 0 | 1; readonly parts: readonly [number, number, number] }): Result {
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  let state = run * world.drift;
  const machine = Array.from({ length: world.iterations[run] }, () => {
    state = run * world.drift + 0.7 * (state - run * world.drift) + world.wander * normal();
    return state;
  });
  const measured = Array.from({ length: world.arms }, (_, i) => {
    const slower = run === 1 && i === world.arms - 1 ? Math.log(world.factor) : 0, offset = world.offset * normal();
    const time = (log: number): number[] => machine.map((now) => Math.exp(log + now + offset + world.noise * normal() + (random() < world.spikes ? 0.2 + random() : 0)));
    const ttft = time(4), tpot = time(2 + slower);
    return { ttft_ms: ttft, tpot_ms: tpot, output_tokens_per_s: tpot.map((ms, at) => 64_000 / (63 * ms + ttft[at]!)) };
  });
  const names = measured.map((_, i) => (i === 0 ? "none" : i === 1 ? "none again" : `arm ${i}`));
  const arms = measured.map((own, i): ResultArm => ({
    name: names[i]!, group: "", role: i === 0 ? "baseline" : i === 1 ? "control" : "technique", settings: {}, invalid: null, engagement: null, proof: null, quality: null,
    metrics: Object.fromEntries(METRICS.map((key): [MetricKey, ResultMetric] =>
      [key, { unit: key, better: key === "output_tokens_per_s" ? "higher" : "lower", samples: own[key], summary: summarise(own[key]) }])),
    differences: i === 0 ? {} : Object.fromEntries(METRICS.map((key) => {
      const equal = change(measured[0]![key], measured[1]![key])!;
      return [key, change(measured[0]![key], own[key], i === 1 ? 0 : Math.max(Math.abs(equal.low), Math.abs(equal.high)))!];
    })), memory: null, facts: [], coldStart: null,
  }));
  const yard = (part: number, now: number): number => Math.exp(0.7 + part * now + 0.02 * normal());
  const [compute, memory, host] = parts;
  return {
    ...EMPTY, arms, protocol: PROTOCOL, started: `run ${run}`, machine: { ...EMPTY.machine, ...(!world.sameCommit && { commit: `${run}` }) },
    yardstick: { work: "software 1", yards: machine.map((now) => ({ computeMs: yard(compute, now), memoryMs: yard(memory, now), hostMs: yard(host, now) })) },
  };
}

const told = ({ rows, effects }: Versus): readonly Pick<Row, "arm">[] => [...rows, ...effects].filter(({ say }) => say === "told");
const between = (random: () => number, low: number, high: number): number => low + Math.floor(random() * (high - low + 1));
const QUIET = { noise: 0.03, spikes: 0, drift: 0, offset: 0, wander: 0.005, factor: 1, sameCommit: true } as const;

/** Shares of `pairs` that claim anything, and, where the last arm changed, that find it. */
function shares(pairs: number, seed: number, worldOf: (random: () => number) => World): { claims: number; finds: number; elsewhere: number } {
  const random = seeded(seed), count = { claims: 0, finds: 0, elsewhere: 0 };
  for (let i = 0; i < pairs; i++) {
    const world = worldOf(random), claims = told(versus(...pairOf(world, random))), last = `arm ${world.arms - 1}`;
    if (claims.length > 0) count.claims++;
    if (claims.some(({ arm }) => arm === last)) count.finds++;
    if (claims.some(({ arm }) => arm !== last)) count.elsewhere++;
  }
  return { claims: count.claims / pairs, finds: count.finds / pairs, elsewhere: count.elsewhere / pairs };
}

const most = (random: () => number, limit: number): Pick<World, "arms" | "iterations"> =>
  ({ arms: between(random, 3, limit), iterations: [between(random, 5, 15), between(random, 5, 15)] });
const WORLDS: Readonly<Record<string, (limit: number) => (random: () => number) => World>> = {
  "equal runs, restless machine": (limit) => (random) =>
    ({ ...QUIET, ...most(random, limit), noise: 0.01 + 0.04 * random(), spikes: 0.05, offset: 0.01, wander: 0.02, drift: random() < 0.5 ? 0 : (2 * random() - 1) * Math.log(2), sameCommit: random() < 0.5 }),
  "equal runs, quiet machine": (limit) => (random) => ({ ...QUIET, ...most(random, limit), sameCommit: false }),
  "equal runs, 5 to 7 iterations": (limit) => (random) => ({ ...QUIET, ...most(random, limit), iterations: [between(random, 5, 7), between(random, 5, 7)], wander: 0.02, offset: 0.01, sameCommit: false }),
  "one arm 30 % slower, 7 iterations": (limit) => (random) => ({ ...QUIET, arms: between(random, 3, limit), iterations: [7, 7], factor: 1.3 }),
  "the same, and the machine up to twice as slow": (limit) => (random) => ({ ...QUIET, arms: between(random, 3, limit), iterations: [7, 7], factor: 1.3, drift: random() * Math.log(2) }),
  "the same, with spikes": (limit) => (random) => ({ ...QUIET, arms: between(random, 3, limit), iterations: [7, 7], factor: 1.3, spikes: 0.03 }),
};

const PAIRS = Number(process.argv[2]);
if (PAIRS > 0) {
  for (const [name, worldOf] of Object.entries(WORLDS)) console.log(name, shares(PAIRS, 11, worldOf(25)));
} else {
  test("of two equal runs, 19 of 20 comparisons at least claim nothing", () => {
    for (const name of Object.keys(WORLDS).slice(0, 3)) {
      const { claims } = shares(20, 5, WORLDS[name]!(6));
      assert.ok(claims <= 0.05, `${name}: ${claims}`);
    }
  });

  test("an arm that takes 30 % longer is found, and no other", () => {
    const { finds, elsewhere } = shares(20, 6, WORLDS["one arm 30 % slower, 7 iterations"]!(6));
    assert.ok(finds >= 0.9, `${finds}`);
    assert.ok(elsewhere <= 0.05, `${elsewhere}`);
  });

  test.run();
}
