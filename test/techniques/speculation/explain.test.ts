/** Speculation explained: every figure by hand on small counts, on simulated rounds of known α, and the verdicts with their causes. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { SpeculationStats } from "../../../models/draft.ts";
import { explain, shareOf, together, type ExplainOptions } from "../../../techniques/speculation/explain.ts";
import { verdictOf, type VerdictCause } from "../../../techniques/speculation/verdict.ts";
import { uniform } from "../../support/gpu.ts";

/** Rounds as models/speculation.ts counts them; the last one is cut off by `cut` tokens. */
function statsOf(rounds: readonly (readonly [drafted: number, accepted: number])[], cut = 0): SpeculationStats {
  const sum = (of: (round: readonly [number, number]) => number): number => rounds.reduce((total, round) => total + of(round), 0);
  const positions = Array.from({ length: Math.max(0, ...rounds.map(([drafted]) => drafted)) }, (_, i) => i);
  return {
    draft: "a draft", rounds: rounds.length, drafted: sum(([drafted]) => drafted), accepted: sum(([, accepted]) => accepted),
    draftedAt: positions.map((i) => rounds.filter(([drafted]) => drafted > i).length),
    acceptedAt: positions.map((i) => rounds.filter(([, accepted]) => accepted > i).length),
    tokens: sum(([, accepted]) => accepted + 1) - cut, draftMs: 10, verifyMs: 20, hostMs: 1,
  };
}

function simulated(alpha: number, k: number, rounds: number): SpeculationStats {
  const random = uniform(Math.round(1000 * alpha) + k);
  return statsOf(Array.from({ length: rounds }, () => {
    let accepted = 0;
    while (accepted < k && random() < alpha) accepted++;
    return [k, accepted] as const;
  }));
}

const costs = (c: number, verify: (k: number) => number): ExplainOptions["costs"] => (
  { decodeMs: 10, draftMs: 10 * c, verifyMs: Array.from({ length: 17 }, (_, k) => 10 * verify(k)) }
);
const FLAT = costs(0.1, () => 1);

function near(actual: number | null | undefined, expected: number, within = 1e-12): void {
  assert.ok(typeof actual === "number" && Math.abs(actual - expected) <= within, `${actual} instead of ${expected}`);
}

test("every figure, by hand", () => {
  // 5 rounds of K = 3; one drafted only 2, one nothing.
  const stats = statsOf([[3, 3], [3, 1], [2, 2], [0, 0], [3, 0]], 1);
  const told = explain(stats, { costs: FLAT, k: 3, measured: { plainTpot: 10, tpot: 8, noise: 0.02 } });
  assert.is(told.draft, "a draft");
  assert.equal([told.rounds, told.drafted, told.accepted, told.k], [5, 11, 6, 3]);
  near(told.rate, 6 / 11);
  assert.equal(told.byPosition, [[4, 3, 3 / 4], [4, 2, 2 / 4], [3, 1, 1 / 3]].map(([drafted, accepted, rate]) => ({ drafted, accepted, rate })));
  near(told.alpha?.value, 0.75);
  assert.is(told.alpha?.of, 4);
  near(told.meanLength, 1 + 6 / 5);
  near(told.expectedLength, 1 + 0.75 + 0.75 ** 2 + 0.75 ** 3);
  near(told.costs.c, 0.1);
  assert.is(told.predictions.length, 16);
  near(told.predicted?.speedUp, (1 + 0.75 + 0.75 ** 2 + 0.75 ** 3) / 1.3);
  assert.ok(told.predictions.every(({ speedUp }) => speedUp <= told.best!.speedUp));
  near(told.counted?.cost, (1.3 + 1.3 + 1.2 + 1 + 1.3) / 5);
  near(told.counted?.speedUp, (1 + 6 / 5) / ((1.3 + 1.3 + 1.2 + 1 + 1.3) / 5));
  near(told.measured?.speedUp, 1.25);
  // The source's formula: 10 tokens in 5 rounds.
  near(told.source?.value, (10 / 5 - 1) / 3);
  assert.is(told.source?.cut, 1);
  assert.is(told.source?.missing, 4);
  near(told.source?.value, (stats.accepted - told.source!.cut) / (stats.drafted + told.source!.missing));
  near(told.source?.ofAlpha, (0.75 + 0.75 ** 2 + 0.75 ** 3) / 3);
});

test("whole rounds: the source's formula is accepted / drafted, and neither is α", () => {
  const told = explain(simulated(0.8, 5, 40_000), { costs: FLAT, k: 5 });
  near(told.source?.value, told.rate!);
  assert.equal([told.source?.cut, told.source?.missing], [0, 0]);
  near(told.rate, 0.538, 0.01);
  near(told.alpha?.value, 0.8, 0.01);
  near(told.meanLength, 3.6893, 0.03);
  near(told.expectedLength, 3.6893, 0.05);
  near(told.predicted?.speedUp, 2.46, 0.03);
  near(told.counted?.speedUp, 2.46, 0.03);
  told.byPosition.forEach(({ rate }, i) => near(rate, 0.8 ** (i + 1), 0.01));
  assert.ok([5, 6, 7].includes(told.best!.k));
});

test("nothing drafted, or no round at all", () => {
  for (const stats of [statsOf([]), statsOf([[0, 0], [0, 0]])]) {
    const told = explain(stats, { costs: FLAT });
    for (const each of [told.rate, told.alpha, told.expectedLength, told.best, told.predicted, told.source]) assert.is(each, null);
    assert.is(told.meanLength, stats.rounds === 0 ? null : 1);
    const verdict = verdictOf(told);
    assert.equal([verdict.helps, verdict.cause], [false, "nothing-drafted"]);
    for (const [name, value] of Object.entries(verdict.numbers)) assert.ok(typeof value !== "number" || Number.isFinite(value), name);
  }
});

test("fewer rows measured than drafted", () => {
  const told = explain(simulated(0.5, 5, 100), { costs: { ...FLAT, verifyMs: FLAT.verifyMs.slice(0, 4) } });
  assert.is(told.predictions.length, 3);
  assert.equal([told.predicted, told.counted], [null, null]);
  assert.is(verdictOf(told).numbers.verifying, null);
});

test("Wilson's interval", () => {
  const { low, high } = shareOf(8, 10); // Brown, Cai and DasGupta 2001 print such tables; by hand from the formula
  near(low, 0.4902, 5e-5);
  near(high, 0.9433, 5e-5);
  assert.equal([shareOf(0, 10).low, shareOf(10, 10).high].map((each) => Number(each.toFixed(12))), [0, 1]);
  assert.ok(shareOf(0, 10).high > 0.2 && shareOf(10, 10).low < 0.8);
  let covered = 0;
  for (let i = 0; i < 1000; i++) {
    const random = uniform(i);
    const { low, high } = shareOf(Array.from({ length: 60 }, () => Number(random() < 0.7)).reduce((a, b) => a + b, 0), 60);
    covered += Number(low <= 0.7 && 0.7 <= high);
  }
  assert.ok(covered > 930 && covered < 970, `${covered} of 1000`);
});

test("several requests together", () => {
  const [one, two] = [[[3, 3], [3, 1]], [[5, 4], [2, 0], [1, 1]]] as const;
  assert.equal(together([statsOf(one, 1), statsOf(two)]), { ...statsOf([...one, ...two], 1), draftMs: 20, verifyMs: 40, hostMs: 2 });
  assert.throws(() => together([]), /0 drafts/);
  assert.throws(() => together([statsOf(one), { ...statsOf(two), draft: "another" }]), /2 drafts/);
});

const CASES: readonly [name: string, alpha: number, k: number, options: ExplainOptions, cause: VerdictCause | null][] = [
  ["it helps, by the count", 0.8, 5, { costs: FLAT }, null],
  ["it helps, by the clock", 0.8, 5, { costs: FLAT, measured: { plainTpot: 10, tpot: 5, noise: 0.02 } }, null],
  ["rejected too often", 0.05, 5, { costs: FLAT }, "acceptance"],
  ["a usable draft would pay", 0.2, 3, { costs: costs(0.3, (k) => 1 + 0.02 * k) }, "acceptance"],
  ["a draft that costs nearly a step", 0.7, 4, { costs: costs(0.9, () => 1) }, "draft-cost"],
  ["a draft that costs more", 0.99, 4, { costs: costs(1.3, () => 1) }, "draft-cost"],
  ["rows that cost as much as steps", 0.7, 4, { costs: costs(0.05, (k) => 1 + k) }, "verify-cost"],
  ["the same by the clock", 0.7, 4, { costs: costs(0.05, (k) => 1 + k), measured: { plainTpot: 10, tpot: 14 } }, "verify-cost"],
  ["too long", 0.5, 16, { costs: FLAT }, "length"],
  ["no difference", 0.8, 5, { costs: FLAT, measured: { plainTpot: 10, tpot: 9.9, noise: 0.02 } }, "noise"],
  ["slower than the count says", 0.8, 5, { costs: FLAT, measured: { plainTpot: 10, tpot: 12, noise: 0.02 } }, "overhead"],
];

for (const [name, alpha, k, options, cause] of CASES) {
  test(`verdict: ${name}`, () => {
    const told = explain(simulated(alpha, k, 3000), options);
    const { helps, cause: found, numbers } = verdictOf(told);
    assert.is(found, cause);
    assert.is(helps, cause === null);
    assert.equal([numbers.k, numbers.alpha, numbers.bestK, numbers.tokensPerRound], [k, told.alpha!.value, told.best!.k, told.meanLength]);
    near(numbers.drafting, k * told.costs.c);
    near(numbers.verifying, told.costs.v[k]!);
    assert.is(numbers.measured, options.measured !== undefined);
    near(numbers.speedUp, options.measured === undefined ? told.counted!.speedUp : options.measured.plainTpot / options.measured.tpot);
    assert.is(helps, numbers.speedUp! > 1 + numbers.noise);
  });
}

test("verdict: a K that is best and still loses fails behind the first position", () => {
  // The first token is nearly always accepted, the second never: α promises more than rounds of 3 can keep.
  const stats = statsOf(Array.from({ length: 100 }, (_, i) => [3, i < 95 ? 1 : 0] as const));
  const told = explain(stats, { costs: costs(0, (k) => (k === 3 ? 2 : k + 1.1)) });
  assert.is(told.best?.k, 3);
  assert.ok(told.predicted!.speedUp > 1 && told.counted!.speedUp < 1);
  assert.is(verdictOf(told).cause, "acceptance");
});

test.run();
