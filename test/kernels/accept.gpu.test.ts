/**
 * accept against its twin: mixed rounds (temperatures, filters, penalties, lengths with 0) in one dispatch, a round without drafted tokens
 * against `sample`, rows that are not finite, and what follows from the mathematics: first and second tokens follow the distribution of the
 * model that decides (10⁵ rounds; χ² and total variation, fixed seeds), and the tokens of a round are as many as a known α promises.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import * as twin from "../../kernels/reference/accept.ts";
import { NO_TOKEN, type SamplingParams } from "../../kernels/sample.ts";
import { near, numbers, openFamilies, shuffled, uniform } from "../support/gpu.ts";
import { CAPACITY, checkDistribution, draw, drawAll, drawsOf } from "../support/sampling.ts";
import { acceptAll, expectedTokens, outcomeOf, totalVariation, type Case } from "./accept_case.ts";
import { counted, mixedRounds, roundOf } from "./accept_rounds.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const [SEQUENCES, K] = [48, 8];
/** The draft's own, as the host makes it of the request's. */
const draftSeed = (seed: number): number => (seed ^ 0x5bd1e995) >>> 0;
const slow = ({ family, adapter }: Gpu): boolean => family === "gpu" && adapter.software;
/** Fewer where one costs seconds. */
const kindsOf = (gpu: Gpu): readonly { vocab: number; text: boolean; adjust: boolean }[] => [
  ...(slow(gpu) ? [65] : [5, 63, 64, 1000]).map((vocab) => ({ vocab, text: false, adjust: true })),
  { vocab: 65, text: true, adjust: false },
  ...(slow(gpu) ? [] : [{ vocab: 65, text: false, adjust: false }, { vocab: 65, text: true, adjust: true }, { vocab: 1000, text: true, adjust: false }]),
];

/** Compare with the twin wherever f32 can tell; the number of rounds that could not be told, and of tokens accepted. */
function compare(c: Case, { words, counts }: { words: Uint32Array; counts: Uint32Array }): { unclear: number; accepted: number } {
  let unclear = 0, accepted = 0;
  const after = c.adjust?.counts.slice() ?? new Uint32Array();
  c.drafted.forEach((drafted, s) => {
    const wanted = twin.accept(roundOf(c, s)), got = outcomeOf(words, c.k, s);
    // As in the sampler's tests: scores and adjusted logits are f32 of up to 30, divided by temperatures down to 0.3.
    if (wanted.margin < 5e-5) unclear++;
    else assert.equal(got, { accepted: wanted.accepted, ids: wanted.ids }, `sequence ${s}, ${drafted.length} drafted, margin ${wanted.margin}, ${JSON.stringify(c.params[s])}`);
    accepted += got.accepted;
    assert.ok(words.subarray(s * (c.k + 2) + 2 + got.accepted, (s + 1) * (c.k + 2)).every((word) => word === NO_TOKEN), "behind the last id");
    if (c.adjust) counted(after.subarray(c.adjust.slots[s]! * c.vocab, (c.adjust.slots[s]! + 1) * c.vocab), got.ids);
  });
  near(counts, after, {}, "counts", c.vocab);
  return { unclear, accepted };
}

for (const gpu of gpus) {
  for (const kind of kindsOf(gpu)) {
    const name = `${kind.text ? "text" : "model"} draft${kind.adjust ? ", adjusted" : ""}, vocabulary ${kind.vocab}`;
    test(`accept, ${gpu.family}: the twin's verdict for every temperature, filter and number of drafted tokens, ${name}`, async () => {
      const c = mixedRounds({ ...kind, sequences: SEQUENCES, k: K, seed: kind.vocab });
      const result = await acceptAll(gpu, c);
      const { unclear, accepted } = compare(c, result);
      assert.ok(unclear <= 4, `${unclear} rounds too close to call`);
      assert.ok(accepted >= SEQUENCES / 3, `${accepted} tokens accepted`);
      const order = shuffled(SEQUENCES, 1); // with whom a sequence shares the batch is nothing to it
      const pick = <T>(list: readonly T[]): T[] => order.map((s) => list[s]!);
      const shuffledCase: Case = {
        ...c, first: pick(c.first), drafted: pick(c.drafted), positions: pick(c.positions), params: pick(c.params),
        draftLogits: c.draftLogits && c.draftLogits.map((_, at) => {
          const [row, token] = [Math.floor(at / c.vocab), at % c.vocab];
          return c.draftLogits![(row - (row % SEQUENCES) + order[row % SEQUENCES]!) * c.vocab + token]!;
        }),
        ...(c.adjust && { adjust: { ...c.adjust, slots: pick(c.adjust.slots) } }),
      };
      const again = await acceptAll(gpu, shuffledCase);
      near(again.words, Uint32Array.from(order.flatMap((s) => [...result.words.subarray(s * (K + 2), (s + 1) * (K + 2))])), {}, "shuffled", K + 2);
    });
  }

  test(`accept, ${gpu.family}: a round with nothing drafted is a plain step, bit for bit`, async () => {
    for (const kind of [{ vocab: 1000, text: false, adjust: true }, { vocab: 65, text: true, adjust: false }]) {
      const mixed = mixedRounds({ ...kind, sequences: SEQUENCES, k: K, seed: 77 });
      const c = { ...mixed, drafted: mixed.drafted.map(() => []) };
      const rows = c.first.map((first) => c.logits.subarray(first * c.vocab, (first + 1) * c.vocab));
      const plain = await drawAll(gpu, { ...c, logits: Float32Array.from(rows.flatMap((row) => [...row])), positions: c.positions });
      const { words, counts } = await acceptAll(gpu, c);
      near(c.drafted.map((_, s) => words[s * (K + 2) + 1]!), plain.tokens, {}, "tokens");
      assert.ok(c.drafted.every((_, s) => words[s * (K + 2)] === 0));
      near(counts, plain.counts, {}, "counts");
    }
  });

  test(`accept, ${gpu.family}: broken rows of either model, ids outside the vocabulary, and a residual that is nothing`, async () => {
    for (const kind of [{ vocab: 65, text: false, adjust: slow(gpu) }, { vocab: 65, text: true, adjust: false }]) {
      const c = mixedRounds({ ...kind, sequences: SEQUENCES, k: K, seed: 5 });
      c.drafted.forEach((drafted, s) => {
        const at = s % (drafted.length + 1), row = (c.first[s]! + at) * c.vocab, value = [NaN, Infinity, -Infinity][s % 3]!;
        if (s % 4 === 0) c.logits[row + ((s * 7) % c.vocab)] = value;
        if (s % 4 === 1 && c.draftLogits && at < drafted.length) c.draftLogits[(at * SEQUENCES + s) * c.vocab + s] = value;
        if (s % 4 === 2 && at < drafted.length) (drafted as number[])[at] = [NO_TOKEN, c.vocab, c.vocab + 1][s % 3]!;
        if (s % 4 === 3 && c.draftLogits && drafted.length > 0) { // p = q, and a token outside both: rejected, but p − q is 0
          c.draftLogits.set(c.logits.subarray(c.first[s]! * c.vocab, (c.first[s]! + 1) * c.vocab), s * c.vocab);
          (c.params as SamplingParams[])[s] = { ...c.params[s]!, temperature: 1, topK: 2 };
          const ranked = shuffled(c.vocab, s).sort((a, b) => c.logits[c.first[s]! * c.vocab + a]! - c.logits[c.first[s]! * c.vocab + b]!);
          (drafted as number[])[0] = c.adjust ? drafted[0]! : ranked[0]!;
        }
      });
      const result = await acceptAll(gpu, c);
      const { unclear } = compare(c, result);
      assert.ok(unclear <= 4, `${unclear} rounds too close to call`);
      assert.ok(c.drafted.some((_, s) => outcomeOf(result.words, K, s).ids.at(-1) === NO_TOKEN));
    }
  });

  const sequences = Math.min(drawsOf(gpu), CAPACITY), most = 10;
  const batches = slow(gpu) ? 1 : 5;
  /** Rounds from logits by (sequence, place); rows that a round lacks are zeros. */
  const many = (
    drafted: readonly (readonly number[])[], params: readonly SamplingParams[], positions: readonly number[],
    rowOf: (s: number, place: number) => readonly number[], draftRowOf: ((s: number, place: number) => readonly number[]) | null,
  ): Case => {
    const logits = new Float32Array(sequences * (most + 1) * 5), draftLogits = draftRowOf && new Float32Array(most * sequences * 5);
    drafted.forEach((ids, s) => {
      for (let i = 0; i <= ids.length; i++) logits.set(rowOf(s, i), (s * (most + 1) + i) * 5);
      ids.forEach((_, i) => draftLogits?.set(draftRowOf!(s, i), (i * sequences + s) * 5));
    });
    return { vocab: 5, k: most, logits, first: drafted.map((_, s) => s * (most + 1)), draftLogits, drafted, positions, params };
  };
  const FIRST = [1, 0.2, -0.5, 0.7, -1.5], DRAFT = [-0.2, 1.4, 0, 0.7, 0.3];
  const SECOND = FIRST.map((_, d) => numbers(5, 40 + d)), SECOND_DRAFT = FIRST.map((_, d) => numbers(5, 50 + d)), THIRD = [0.3, 0, -2, 1, 0.5];

  for (const text of [false, true]) {
    test(`accept, ${gpu.family}: ${sequences * batches} rounds: first, second and third token follow the target, ${text ? "text" : "model"} draft`, async () => {
      const choice = slow(gpu) ? { temperature: 0.9, topP: 1, topK: 0 } : { temperature: 0.9, topP: 0.97, topK: 4 };
      const all: number[][] = [];
      for (let batch = 0; batch < batches; batch++) {
        const params = Array.from({ length: sequences }, (_, s) => ({ ...choice, seed: (batch * sequences + s) % 1013 }));
        const positions = params.map((_, s) => 3 * Math.floor((batch * sequences + s) / 1013));
        const ofDraft = params.map((each) => ({ ...each, seed: draftSeed(each.seed) }));
        const flat = (rowOf: (s: number) => ArrayLike<number>): Float32Array => Float32Array.from({ length: sequences * 5 }, (_, at) => rowOf(Math.floor(at / 5))[at % 5]!);
        const first = text ? params.map((_, s) => [0, 3, 1, 2][s % 4]!) : await draw(gpu, { logits: flat(() => DRAFT), params: ofDraft, positions, vocab: 5 });
        const second = text ? params.map((_, s) => s % 5)
          : await draw(gpu, { logits: flat((s) => SECOND_DRAFT[first[s]!]!), params: ofDraft, positions: positions.map((position) => position + 1), vocab: 5 });
        const drafted = params.map((_, s) => [first[s]!, second[s]!]);
        const rowOf = (s: number, place: number): readonly number[] => [FIRST, [...SECOND[first[s]!]!], THIRD][place]!;
        const draftRowOf = (s: number, place: number): readonly number[] => (place === 0 ? DRAFT : [...SECOND_DRAFT[first[s]!]!]);
        const { words } = await acceptAll(gpu, many(drafted, params, positions, rowOf, text ? null : draftRowOf));
        for (let s = 0; s < sequences; s++) all.push([...outcomeOf(words, most, s).ids]);
      }
      const follow = (tokens: readonly number[], logits: ArrayLike<number>): void => {
        const expected = twin.law(logits, { ...choice, seed: 0 })!.probabilities;
        checkDistribution(Uint32Array.from(tokens), expected);
        const bound = 1.3 * expected.reduce((sum, p) => sum + Math.sqrt((p * (1 - p)) / tokens.length), 0); // thrice what chance makes
        assert.ok(totalVariation(tokens, expected) < bound, `total variation ${totalVariation(tokens, expected)} of ${tokens.length}`);
      };
      follow(all.map(([token]) => token!), FIRST);
      FIRST.forEach((_, d) => {
        const behind = all.filter((ids) => ids.length > 1 && ids[0] === d).map((ids) => ids[1]!);
        if (behind.length > 50) follow(behind, SECOND[d]!);
      });
      follow(all.filter((ids) => ids.length > 2).map((ids) => ids[2]!), THIRD);
      assert.ok(all.filter((ids) => ids.length > 2).length > all.length / 50, "some rounds accept both");
    });

    test(`accept, ${gpu.family}: tokens of a round for known α and K, ${text ? "text" : "model"} draft`, async () => {
      const alphas = [0.5, 0.6, 0.7, 0.8, 0.9], lengths = [3, 5, 10];
      // Σ min(p, q) = α. As text: p(token 0) = α.
      const p = alphas.map((a) => (text ? [a, ...Array<number>(4).fill((1 - a) / 4)] : [a / 2 - 0.015, a / 2 - 0.015, 1.01 - a, 0.01, 0.01]).map(Math.log));
      const q = p.map(([a, b, c, d, e]) => [a!, b!, d!, c!, e!]);
      const random = uniform(9);
      const drawFrom = (logits: readonly number[]): number => {
        let left = random();
        const token = logits.findIndex((logit) => (left -= Math.exp(logit)) < 0);
        return token < 0 ? 4 : token;
      };
      const sums = alphas.map(() => lengths.map(() => ({ rounds: 0, tokens: 0 })));
      for (let batch = 0; batch < (slow(gpu) ? 1 : 2); batch++) {
        const of = (s: number): [number, number] => [s % 5, Math.floor(s / 5) % 3];
        const params = Array.from({ length: sequences }, (_, s) => ({ temperature: 1, topP: 1, topK: 0, seed: batch * sequences + s }));
        const drafted = params.map((_, s) => Array.from({ length: lengths[of(s)[1]]! }, () => (text ? 0 : drawFrom(q[of(s)[0]]!))));
        const { words } = await acceptAll(gpu, many(drafted, params, params.map(() => 0), (s) => p[of(s)[0]]!, text ? null : (s) => q[of(s)[0]]!));
        for (let s = 0; s < sequences; s++) {
          const sum = sums[of(s)[0]]![of(s)[1]]!;
          sum.rounds++;
          sum.tokens += outcomeOf(words, most, s).ids.length;
        }
      }
      alphas.forEach((alpha, i) => lengths.forEach((k, j) => {
        const { rounds, tokens } = sums[i]![j]!;
        const mean = expectedTokens(alpha, k);
        let square = 0; // E[N²] = Σ (2i + 1) P(N > i), P(N > i) = αⁱ
        for (let n = 0; n <= k; n++) square += (2 * n + 1) * alpha ** n;
        const bound = 4 * Math.sqrt((square - mean ** 2) / rounds);
        assert.ok(Math.abs(tokens / rounds - mean) < bound, `α = ${alpha}, K = ${k}: ${tokens / rounds} tokens a round, expected ${mean} ± ${bound}`);
      }));
    });
  }
}

test.run();
