/** The reference of speculative decoding: its law is the target's, by counting all outcomes and by drawing; lengths as the formula says. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { expectedTokens } from "../../../techniques/speculation/cost.ts";
import {
  acceptance, certainty, drawWith, greedy, residual, speculate, type Draft, type Law, type Model,
} from "../../../techniques/speculation/speculate.ts";
import { uniform } from "../../support/gpu.ts";
import { checkDistribution } from "../../support/sampling.ts";
import { everyOutcome, randomLaw } from "./chance.ts";

const TOKENS = 5;

function near(actual: number, expected: number, within: number, what: string): void {
  assert.ok(Math.abs(actual - expected) <= within, `${what}: ${actual} instead of ${expected}`);
}

/** A law of its own behind every text. */
function modelOf(seed: number, sharpness: number): Model {
  const laws = new Map<string, Law>();
  return (tokens) => {
    const key = tokens.join(" ");
    let law = laws.get(key);
    if (law === undefined) {
      const hash = tokens.reduce((sum, token) => Math.imul(sum, 31) + token + 1, seed);
      laws.set(key, law = randomLaw(uniform(hash), TOKENS, sharpness));
    }
    return law;
  };
}

const top2 = (model: Model): Model => (tokens) => {
  const law = model(tokens);
  const second = [...law].sort((a, b) => b - a)[1]!;
  const mass = law.filter((p) => p >= second).reduce((a, b) => a + b);
  return law.map((p) => (p >= second ? p / mass : 0));
};

const target = modelOf(1, 3);
const DRAFTS: Readonly<Record<string, { target: Model; draft: Draft }>> = {
  "a draft that differs": { target, draft: modelOf(2, 2) },
  "the target itself": { target, draft: target },
  "a sharper draft": { target, draft: modelOf(1, 9) },
  "laws with zeros, both filtered alike": { target: top2(target), draft: top2(modelOf(2, 2)) },
  "a draft without the target's tokens": { target: () => [0.5, 0.5, 0, 0, 0], draft: () => [0, 0, 0.2, 0.3, 0.5] },
  "a draft that is certain": { target, draft: (tokens) => certainty(tokens.length % TOKENS, TOKENS) },
  "a greedy draft": { target, draft: (tokens) => greedy(target(tokens)) },
  "a draft that stops": { target, draft: (tokens) => (tokens.length % 3 === 2 ? null : modelOf(2, 2)(tokens)) },
};

/** Of every text of `length` tokens, how likely rounds of k write it: all outcomes of a round are counted behind every shorter text. */
function lawOfRounds({ target, draft }: { target: Model; draft: Draft }, k: number, length: number): Map<string, number> {
  const law = new Map<string, number>();
  const add = (texts: Map<string, number>, text: readonly number[], probability: number): void => {
    texts.set(text.join(" "), (texts.get(text.join(" ")) ?? 0) + probability);
  };
  // A round only lengthens a text, so the shorter ones are complete before the longer ones are gone on from.
  const open = Array.from({ length }, () => new Map<string, number>());
  add(open[0]!, [], 1);
  for (const texts of open) {
    for (const [key, before] of texts) {
      const text = key === "" ? [] : key.split(" ").map(Number);
      everyOutcome((draw) => speculate(target, draft, k, text, draw).tokens, (tokens, probability) => {
        const whole = [...text, ...tokens];
        add(open[whole.length] ?? law, whole.slice(0, length), before * probability);
      });
    }
  }
  return law;
}

/** The same by the target alone. */
function lawOfTarget(target: Model, length: number): Map<string, number> {
  let texts = new Map<string, number>([["", 1]]);
  for (let i = 0; i < length; i++) {
    texts = new Map([...texts].flatMap(([text, probability]) => {
      const tokens = text === "" ? [] : text.split(" ").map(Number);
      return target(tokens).map((p, token) => [[...tokens, token].join(" "), probability * p] as const);
    }));
  }
  return texts;
}

for (const [name, pair] of Object.entries(DRAFTS)) {
  test(`losslessness, exactly: ${name}`, () => {
    for (const [k, length] of [[1, 1], [1, 4], [2, 3], [3, 1], [3, 3]] as const) {
      const [actual, expected] = [lawOfRounds(pair, k, length), lawOfTarget(pair.target, length)];
      for (const [text, probability] of expected) near(actual.get(text) ?? 0, probability, 1e-12, `K ${k}: ${text}`);
      near([...actual.values()].reduce((a, b) => a + b), 1, 1e-12, "all outcomes together");
      for (const text of actual.keys()) assert.ok(expected.get(text)! > 0, `K ${k}: ${text} is impossible`);
    }
  });
}

test("losslessness, by 10⁵ draws", () => {
  const pair = DRAFTS["a draft that differs"]!;
  for (const [seed, k] of [[1, 1], [2, 4]] as const) {
    const draw = drawWith(uniform(seed));
    const texts = Uint32Array.from({ length: 100_000 }, () => {
      const text: number[] = [];
      while (text.length < 2) text.push(...speculate(pair.target, pair.draft, k, text, draw).tokens);
      return TOKENS * text[0]! + text[1]!;
    });
    checkDistribution(texts, [...lawOfTarget(pair.target, 2).values()]);
  }
});

test("a rule that always accepts, or that redraws from p, is found out", () => {
  const { target, draft } = DRAFTS["a draft that differs"]!;
  const [p, q] = [target([]), draft([])!];
  const always = new Array<number>(TOKENS).fill(0), redrawn = new Array<number>(TOKENS).fill(0);
  q.forEach((mass, d) => {
    const accept = Math.min(1, p[d]! / mass);
    always[d]! += mass;
    redrawn[d]! += mass * accept;
    p.forEach((each, token) => { redrawn[token]! += mass * (1 - accept) * each; });
  });
  assert.ok(Math.max(...always.map((each, i) => Math.abs(each - p[i]!))) > 0.01);
  assert.ok(Math.max(...redrawn.map((each, i) => Math.abs(each - p[i]!))) > 0.01);
});

test("greedy: accepted while equal, then the target's own token", () => {
  const best: Model = (tokens) => greedy(target(tokens));
  const plain: number[] = [];
  while (plain.length < 40) plain.push(best(plain).indexOf(1));
  for (const k of [1, 2, 5, 16]) {
    const sometimesWrong: Model = (tokens) => (tokens.length % 4 === 3 ? certainty(4, TOKENS) : best(tokens));
    for (const draft of [best, sometimesWrong, modelOf(2, 2)]) {
      const text: number[] = [], draw = drawWith(uniform(k));
      while (text.length < 40) {
        const { drafted, accepted, tokens } = speculate(best, draft, k, text, draw);
        assert.equal(tokens.slice(0, accepted), drafted.slice(0, accepted));
        assert.is(tokens.length, accepted + 1);
        if (draft === best) assert.is(accepted, k, "a draft that is the target is always right");
        text.push(...tokens);
      }
      assert.equal(text.slice(0, 40), plain, `K ${k}`);
    }
  }
});

test("α = Σ min(p, q) = 1 − TV, and what is left over is the residual's mass", () => {
  const random = uniform(5);
  for (let i = 0; i < 50; i++) {
    const [p, q] = [randomLaw(random, TOKENS, 4), randomLaw(random, TOKENS, 4)];
    const variation = p.reduce((sum, mass, token) => sum + Math.abs(mass - q[token]!), 0) / 2;
    near(acceptance(p, q), 1 - variation, 1e-12, "α");
    const rest = residual(p, q);
    near(rest.reduce((a, b) => a + b), 1, 1e-12, "residual");
    rest.forEach((mass, token) => near(mass * variation, Math.max(0, p[token]! - q[token]!), 1e-12, `residual of ${token}`));
  }
  assert.equal(residual([0.5, 0.5], [0.5, 0.5]), [0.5, 0.5], "without a residual, p");
  assert.equal(residual([0.25, 0.75], certainty(0, 2)), [0, 1], "p without the token that was certain");
});

test("lengths of rounds: (1 − α^{K+1}) / (1 − α), exactly and by drawing", () => {
  const q: Law = [0.2, 0.2, 0.2, 0.2, 0.2];
  for (const p of [[0.4, 0.4, 0.2, 0, 0], [0.5, 0.2, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2], [0.96, 0.01, 0.01, 0.01, 0.01]]) {
    const alpha = acceptance(p, q);
    for (const k of [1, 2, 3]) {
      let mean = 0;
      everyOutcome((draw) => speculate(() => p, () => q, k, [], draw), ({ tokens }, probability) => { mean += probability * tokens.length; });
      near(mean, expectedTokens(alpha, k), 1e-11, `K ${k}, α ${alpha}`);
    }
    const draw = drawWith(uniform(9)), rounds = 20_000;
    let [sum, squares] = [0, 0];
    for (let i = 0; i < rounds; i++) {
      const { length } = speculate(() => p, () => q, 8, [], draw).tokens;
      [sum, squares] = [sum + length, squares + length ** 2];
    }
    const error = Math.sqrt((squares / rounds - (sum / rounds) ** 2) / rounds);
    near(sum / rounds, expectedTokens(alpha, 8), 4 * error + 1e-9, `K 8, α ${alpha}, drawn`);
  }
});

test("draws never give what has no weight", () => {
  for (const random of [() => 0, () => 1 - 2 ** -53, () => 0.5]) {
    const draw = drawWith(random);
    assert.is(draw([0, 0, 3, 0]), 2);
    assert.is(draw([1 - 0.9 - 0.1, 0.1 + 0.2, 0]), 1);
  }
});

test.run();
