/**
 * What is done with the logits of a step, which stay on the device: choosing a token, log-probabilities, surprise and divergence, and the
 * verdict on drafted tokens.
 */

import { accept, acceptScratch, ROUND_WORDS } from "../../../kernels/accept.ts";
import { batchConsts } from "../../../kernels/batch.ts";
import { LOGPROB_WORDS, logprobs, unpackLogprobs } from "../../../kernels/logprobs.ts";
import { nll, NLL_WORDS, unpackComparison, unpackSurprise } from "../../../kernels/nll.ts";
import { placeDrafted } from "../../../kernels/place_drafted.ts";
import * as acceptTwin from "../../../kernels/reference/accept.ts";
import * as logprobsTwin from "../../../kernels/reference/logprobs.ts";
import * as nllTwin from "../../../kernels/reference/nll.ts";
import * as sampleTwin from "../../../kernels/reference/sample.ts";
import { packSampling, sample, SAMPLING_WORDS, type SamplingParams } from "../../../kernels/sample.ts";
import type { Ask, KernelCase, KernelDefinition, Prepared, Shape, Verdict } from "./case.ts";
import { against, indices, numbers, together } from "./numbers.ts";
import { batchOfRows } from "./rows.ts";
import { vocabularyShapes } from "./shapes.ts";
import * as work from "./work.ts";
import type { Workbench } from "./workbench.ts";

/** How `sample` chooses: the likeliest token; a draw; a draw from what three filters leave; and with penalties and biases. */
const WAYS = {
  greedy: { temperature: 0, topP: 1, topK: 0 }, draw: { temperature: 0.8, topP: 1, topK: 0 },
  filters: { temperature: 0.8, topP: 0.95, topK: 50, minP: 0.02 },
  adjusted: { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1.2, presencePenalty: 0.1 },
} as const satisfies Record<string, Omit<SamplingParams, "seed">>;
type Way = keyof typeof WAYS;
const DRAFTED = 4;
const TOP = 5;
/** Decisions that are less clear than this may rightly fall otherwise in f32. */
const UNCLEAR = 5e-5;
/** exp and log of f32, relative to the number and absolute. */
const LOG_ERROR = (value: number): number => 2e-4 + 1e-5 * Math.abs(value);
/** What one number costs: exp and an addition for sums, a comparison for the greatest. */
const PER_NUMBER = { greedy: 1, draw: 6, filters: 9, adjusted: 5, logprobs: 3, nll: 3, nll_against: 8, accept: 6 } as const;

export const VOCABULARY: readonly KernelDefinition[] = [
  define("sample", ["sample.wgsl"], "the next token of each row", Object.keys(WAYS), (shape, batch, variant) => sampling(shape, batch, variant as Way)),
  define("logprobs", ["logprobs.wgsl"], `log-probability of the chosen token and the ${TOP} likeliest`, null, logging),
  define("nll", ["nll.wgsl"], "-log p of the token that truly follows", null, (shape, batch) => surprising(shape, batch, false)),
  define("nll_against", ["nll.wgsl"], "the same, and the divergence from another model's logits", null, (shape, batch) => surprising(shape, batch, true)),
  define("accept", ["accept.wgsl", "accept_rows.wgsl"], `verdict on ${DRAFTED} drafted tokens of each sequence`, ["draft model", "text draft"], (shape, batch, variant) => accepting(shape, batch, variant === "draft model")),
  define("place_drafted", ["place_drafted.wgsl"], "drafted tokens into the batch that verifies them", null, placing),
];

function define(
  name: string, sources: readonly string[], what: string, variants: readonly string[] | null,
  make: (shape: Shape, batch: number, variant: string | null) => Pick<KernelCase, "work" | "binding" | "prepare">,
): KernelDefinition {
  return {
    name, class: "vocabulary", sources, what, shape: "not used x vocabulary", batch: "sequences", batches: [1, 65_535], multiple: 1,
    formats: null, kv: null, variants: variants !== null,
    cases: (ask: Ask) => (ask.shapes ?? vocabularyShapes(ask)).flatMap((given) => (ask.rows ?? (ask.quick ? [1] : [1, 8])).flatMap((batch) => {
      const shape = { ...given, rows: batch }, first = ask.quick && ask.variant === null ? 1 : Infinity;
      return (variants ?? [null]).slice(0, first)
        .map((variant): KernelCase => ({ kernel: name, class: "vocabulary", format: null, kv: null, variant, chosen: true, shape, batch, ...make(shape, batch, variant) }));
    })),
  };
}

/** Logits as models have them: most around −2, a few far above. */
function logitsOf(count: number, salt: number): Float32Array {
  return numbers(count, salt, 4).map((value, i) => (i % 997 === 5 ? 8 + value : value - 2));
}

const params = (way: Way, row: number): SamplingParams => ({ ...WAYS[way], seed: 1000 + row });

/** Logits of `rows` rows, sampling parameters and a batch in which row i is sample i. */
async function common(bench: Workbench, V: number, rows: number, sampling: readonly SamplingParams[]) {
  const values = logitsOf(rows * V, 21);
  return {
    values, logits: await bench.shared(`logits ${rows}x${V}`, () => bench.floats([rows, V], values, "logits")),
    sampling: await bench.words([sampling.length, SAMPLING_WORDS], packSampling(sampling, sampling.length), "sampling"),
    row: (i: number): Float32Array => values.subarray(i * V, (i + 1) * V),
  };
}

/** Positions that batchOfRows gives: of the token that follows row i. */
const positionAfter = (row: number): number => 101 + row;

function sampling({ columns: V }: Shape, S: number, way: Way) {
  return {
    work: work.vocabulary(V, S, PER_NUMBER[way], way === "adjusted" ? 3 : 1), binding: S * V * 4,
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const { logits, sampling: words, row } = await common(bench, V, S, Array.from({ length: S }, (_, i) => params(way, i)));
      const { batch } = await batchOfRows(bench, S, V), sampled = await bench.tensor([1, S], "u32", "sampled");
      const counts = Uint32Array.from({ length: S * V }, (_, i) => (i % 13 === 0 ? 2 : 0)), bias = new Float32Array(S * V).map((_, i) => (i % 29 === 0 ? -1 : 0));
      const adjust = way !== "adjusted" ? undefined : { counts: await bench.words([S, V], counts, "counts"), bias: await bench.floats([S, V], bias, "bias") };
      return {
        copies: 1, footprint: S * V * 4, extent: { rows: S, tiles: 0 },
        record: (recorder) => sample(recorder, { logits, sampling: words, sampled, batch, adjust }, { feedback: false }),
        spoil: () => {
          bench.gpu.upload(sampled.buffer, 0, new Uint32Array(S).fill(0xfffffffe));
          if (adjust) bench.gpu.upload(adjust.counts.buffer, 0, counts);
        },
        compare: async () => {
          const got = await bench.gpu.readU32(sampled);
          return together(...indices(S).map((i) => {
            const own = adjust && { counts: counts.subarray(i * V, (i + 1) * V), bias: bias.subarray(i * V, (i + 1) * V) };
            const { token, margin } = sampleTwin.sample(row(i), params(way, i), positionAfter(i), own);
            return chosen(got[i]!, token, margin, V, `token of row ${i}`);
          }));
        },
      };
    },
  };
}

/** A choice against the twin's; where that was a near thing, any token of the vocabulary will do. */
function chosen(got: number, wanted: number, margin: number, V: number, what: string): Verdict {
  const right = margin < UNCLEAR ? got < V : got === wanted;
  return { wrong: right ? null : `${what} is ${got}, but should be ${wanted}`, looked: 1, of: 1 };
}

function logging({ columns: V }: Shape, S: number) {
  return {
    work: work.vocabulary(V, S, PER_NUMBER.logprobs), binding: S * V * 4,
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const { logits, sampling: words, row } = await common(bench, V, S, Array.from({ length: S }, (_, i) => ({ ...params("greedy", i), logprobs: TOP })));
      const { batch } = await batchOfRows(bench, S, V), tokens = Uint32Array.from({ length: S }, (_, i) => (17 * i + 5) % V);
      const sampled = await bench.words([1, S], tokens, "sampled"), out = await bench.tensor([1, S, LOGPROB_WORDS], "u32", "logprobs");
      return {
        copies: 1, footprint: S * V * 4, extent: { rows: S, tiles: 0 },
        record: (recorder) => logprobs(recorder, { logits, sampling: words, sampled, out, batch }),
        spoil: () => bench.gpu.upload(out.buffer, 0, new Uint32Array(S * LOGPROB_WORDS).fill(0x7fc00000)),
        compare: async () => {
          const got = await bench.gpu.readU32(out);
          return together(...indices(S).map((i) => {
            const [own, wanted] = [unpackLogprobs(got, i * LOGPROB_WORDS, TOP), logprobsTwin.logprobs(row(i), tokens[i]!, TOP)];
            const flat = ({ logprob, rank, top }: typeof own): number[] => [rank, logprob, ...top.flatMap(({ id, logprob: of }) => [id, of])];
            return against(flat(own), indices(2 + 2 * Math.min(TOP, V)), (at) => ({ value: flat(wanted)[at]!, error: at % 2 === 1 ? LOG_ERROR(flat(wanted)[at]!) : 0 }), 2 + 2 * TOP, (at) => `number ${at} of row ${i}`);
          }));
        },
      };
    },
  };
}

function surprising({ columns: V }: Shape, S: number, hasBase: boolean) {
  return {
    work: work.vocabulary(V, S, hasBase ? PER_NUMBER.nll_against : PER_NUMBER.nll, hasBase ? 2 : 1), binding: S * V * 4,
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const { logits, values, row } = await common(bench, V, S, [params("greedy", 0)]);
      const { batch } = await batchOfRows(bench, S, V), width = hasBase ? NLL_WORDS.against : NLL_WORDS.alone;
      const bases = values.map((value, i) => value + 0.3 * Math.sin(i)), base = hasBase ? await bench.floats([S, V], bases, "base") : undefined;
      const truth = Uint32Array.from({ length: S }, (_, i) => (31 * i + 7) % V), targets = await bench.words([1, S], truth, "targets");
      const out = await bench.tensor([1, S, width], "u32", "surprise");
      return {
        copies: 1, footprint: S * V * (hasBase ? 8 : 4), extent: { rows: S, tiles: 0 },
        record: (recorder) => nll(recorder, { logits, targets, out, batch, base }, { feedback: false }),
        spoil: () => bench.gpu.upload(out.buffer, 0, new Uint32Array(S * width).fill(0x7fc00000)),
        compare: async () => {
          const got = await bench.gpu.readU32(out);
          return together(...indices(S).map((i) => {
            const own = hasBase ? unpackComparison(got, i * width) : { ...unpackSurprise(got, i * width), kld: 0, baseNll: 0 };
            const wanted = hasBase ? nllTwin.compare(row(i), bases.subarray(i * V, (i + 1) * V), truth[i]!) : { ...nllTwin.nll(row(i), truth[i]!), kld: 0, baseNll: 0 };
            const flat = (of: { nll: number; kld: number; baseNll: number; hit: boolean; broken: boolean }): number[] => [of.nll, of.kld, of.baseNll, Number(of.hit), Number(of.broken)];
            const all = flat(wanted);
            return against(flat(own), indices(all.length), (at) => ({ value: all[at]!, error: at < 3 ? LOG_ERROR(all[at]!) : 0 }), all.length, (at) => `number ${at} of row ${i}`);
          }));
        },
      };
    },
  };
}

function accepting({ columns: V }: Shape, S: number, hasDraft: boolean) {
  const rows = S * (DRAFTED + 1);
  const all: SamplingParams = { ...WAYS.draw, seed: 7 };
  return {
    work: work.vocabulary(V, rows + (hasDraft ? S * DRAFTED : 0), PER_NUMBER.accept), binding: rows * V * 4,
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const { logits, sampling: words, values, row } = await common(bench, V, rows, Array.from({ length: S }, () => all));
      const draft = new Float32Array(DRAFTED * S * V);
      for (let k = 0; k < DRAFTED; k++) for (let s = 0; s < S; s++) draft.set(values.subarray((s * (DRAFTED + 1) + k) * V, (s * (DRAFTED + 1) + k + 1) * V).map((value, i) => value + 0.2 * Math.cos(i)), (k * S + s) * V);
      const draftRow = (k: number, s: number): Float32Array => draft.subarray((k * S + s) * V, (k * S + s + 1) * V);
      const ids = Uint32Array.from({ length: DRAFTED * S }, (_, at) => sampleTwin.sample(draftRow(Math.floor(at / S), at % S), all, 100 + Math.floor(at / S) + 1).token);
      const rounds = Uint32Array.from({ length: S * ROUND_WORDS }, (_, at) => [Math.floor(at / ROUND_WORDS) * (DRAFTED + 1), DRAFTED, 100, 0][at % ROUND_WORDS]!);
      const operands = {
        logits, drafted: await bench.words([DRAFTED, S], ids, "drafted"), rounds: await bench.words([S, ROUND_WORDS], rounds, "rounds"),
        sampling: words,
        ...(hasDraft && { draftLogits: await bench.floats([DRAFTED, S, V], draft, "draft logits") }),
        scratch: await bench.tensor(acceptScratch(rows, DRAFTED, S), "u32", "scratch"),
        out: await bench.tensor([S, DRAFTED + 2], "u32", "verdicts"),
      };
      return {
        copies: 1, footprint: rows * V * 4, extent: { rows: S, tiles: 0 },
        record: (recorder) => accept(recorder, operands),
        spoil: () => bench.gpu.upload(operands.out.buffer, 0, new Uint32Array(S * (DRAFTED + 2)).fill(0xfffffffe)),
        compare: async () => {
          const got = await bench.gpu.readU32(operands.out);
          return together(...indices(S).map((s) => {
            const round = { rows: indices(DRAFTED + 1).map((i) => row(s * (DRAFTED + 1) + i)), draftRows: hasDraft ? indices(DRAFTED).map((k) => draftRow(k, s)) : null };
            const wanted = acceptTwin.accept({ ...round, drafted: indices(DRAFTED).map((k) => ids[k * S + s]!), position: 100, params: all });
            const own = [...got.subarray(s * (DRAFTED + 2), s * (DRAFTED + 2) + 2 + wanted.accepted)];
            const right = wanted.margin < UNCLEAR ? own[0]! <= DRAFTED : own.join() === [wanted.accepted, ...wanted.ids].join();
            return { wrong: right ? null : `the verdict on sequence ${s} is ${own.join(" ")}, but should be ${[wanted.accepted, ...wanted.ids].join(" ")}`, looked: 1, of: 1 };
          }));
        },
      };
    },
  };
}

function placing({ columns: V }: Shape, S: number) {
  return {
    work: work.copy(S * DRAFTED * 4), binding: S * DRAFTED * 4,
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const rows = S * (DRAFTED + 1), { batch } = await batchOfRows(bench, rows, V), { BATCH_HEADER: header } = batchConsts(batch) as { BATCH_HEADER: number };
      const ids = Uint32Array.from({ length: DRAFTED * S }, (_, i) => (41 * i + 3) % V), drafted = await bench.words([DRAFTED, S], ids, "drafted");
      const rounds = await bench.words([S, ROUND_WORDS], Uint32Array.from({ length: S * ROUND_WORDS }, (_, at) => [Math.floor(at / ROUND_WORDS) * (DRAFTED + 1), DRAFTED, 100, 0][at % ROUND_WORDS]!), "rounds");
      return {
        copies: 1, footprint: S * DRAFTED * 8, extent: { rows: S, tiles: 0 },
        record: (recorder) => placeDrafted(recorder, { drafted, rounds, batch, vocab: V }),
        spoil: () => bench.gpu.upload(batch.tensor.buffer, header * 4, new Uint32Array(rows).fill(0xfffffffe)),
        compare: async () => {
          const got = await bench.gpu.readU32(batch.tensor);
          return against(got, indices(S * DRAFTED).map((at) => header + Math.floor(at / DRAFTED) * (DRAFTED + 1) + 1 + (at % DRAFTED)), (at) => {
            const row = at - header, s = Math.floor(row / (DRAFTED + 1));
            return { value: ids[(row % (DRAFTED + 1) - 1) * S + s]!, error: 0 };
          }, S * DRAFTED, (at) => `id of row ${at - header}`);
        },
      };
    },
  };
}
