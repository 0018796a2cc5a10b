/**
 * What queries to come are expected to attend to stays (Devoto et al. 2025, arXiv 2510.00636). Queries before rotation are taken for
 * normal, with the mean and the covariance that those of the prompt have; rotated on average over the positions ahead, E[exp(q · k / √d)]
 * has a closed form.
 */

import { UsageError } from "../../engine/errors.ts";
import { f32, wgsl } from "../../engine/kernel.ts";
import { match } from "../../engine/shape.ts";
import type { Press, PressModel, PressStage } from "../../models/press.ts";
import { keepOf, perEntry, prefillPress, protect, reducingLanes, requireCount, requireMore } from "./prefill.ts";

const file = (name: string) => wgsl(new URL(name, import.meta.url));
const QUERIES = file("./expected_queries.wgsl");
const LOGITS = file("./expected_logits.wgsl");
const STATISTICS = file("./expected_statistics.wgsl");
const SCORE = file("./expected_attention.wgsl");
/** A number for each frequency of a head, twice, has its place in the parameters whatever model it is. */
const MOST_FREQUENCIES = 512;

/** Parameters of expected_attention beside its ratio. */
export interface ExpectedAttentionOptions {
  /** Positions ahead, from the next one on, that the rotation is averaged over; 512 by default. */
  readonly futurePositions?: number | undefined;
  /** First tokens, which always stay and whose queries do not count; 4 by default. */
  readonly sinks?: number | undefined;
  /** Use the covariance of queries and not only their mean; true by default. */
  readonly covariance?: boolean | undefined;
  /** Weigh by the norm of the value; true by default. */
  readonly valueNorm?: boolean | undefined;
  /** Added to the attention before it is weighed; 0 by default. */
  readonly epsilon?: number | undefined;
}

/**
 * With R the rotation averaged over positions seen … seen + futurePositions − 1, and μ, Σ mean and (biased) covariance of a head's queries:
 * logit = (R μ) · k / √d + kᵀ R Σ Rᵀ k / 2 d; score = (mean over the group of softmax(logit) + epsilon) · ‖v‖; of the first `sinks` entries
 * 1 above the greatest of the layer. `ratio`: see `expectedAttention`, 0 by default. `params` throws UsageError when no more than `sinks`
 * tokens have been read.
 */
export function expectedAttentionStage(options: ExpectedAttentionOptions & { readonly ratio?: number | undefined } = {}): PressStage {
  const { ratio = 0, futurePositions = 512, sinks = 4, covariance = true, valueNorm = true, epsilon = 0 } = options;
  requireCount(futurePositions, 1, "expected_attention: futurePositions");
  requireCount(sinks, 0, "expected_attention: sinks");
  if (!(epsilon >= 0 && Number.isFinite(epsilon))) throw new UsageError(`expected_attention: epsilon must be a number of at least 0, not ${String(epsilon)}`);
  return {
    needs: { keys: true, values: valueNorm, queryStats: { sinks } },
    keep: keepOf(ratio),
    newest: () => 0,
    paramCount: 1 + 2 * MOST_FREQUENCIES,
    params(state, model) {
      requireMore("expected_attention", sinks, state);
      return meanRotation(state.seen, futurePositions, model);
    },
    score(recorder, operands) {
      const { shape: { heads, kvHeads, headDim }, columns, lengths, params, scores, scratch } = operands;
      const [keys, queryStats, queryCount] = [operands.keys!, operands.queryStats!, operands.queryCount!];
      match("expectedAttention", { keys: [keys, kvHeads, headDim, columns], queryStats: [queryStats, heads, 2 * headDim + headDim ** 2] });
      // Columns of R Σ Rᵀ are padded to a multiple of eight, with zeros.
      const width = Math.ceil(headDim / 8) * 8;
      const mean = scratch("expected.mean", [heads, headDim], "f32");
      const spread = scratch("expected.spread", [heads, headDim, width], "f32");
      const logits = scratch("expected.logits", [heads, columns], "f32");
      const statistics = scratch("expected.statistics", [heads, 2], "f32");
      const consts = { HEAD_DIM: headDim, WIDTH: width, GROUP: heads / kvHeads, SINKS: sinks };
      recorder.run({ source: QUERIES, slots: [], consts: { ...consts, MOST_FREQUENCIES } }, { query_stats: queryStats, query_count: queryCount, params, mean, spread },
        heads, Math.ceil(headDim * width / 64));
      perEntry(recorder, operands, { source: LOGITS, consts: { ...consts, COVARIANCE: covariance, SCALE: f32(headDim ** -0.5) }, per: heads }, { keys, mean, spread, logits });
      recorder.run({ source: STATISTICS, slots: [], consts: { ...consts, COLUMNS: columns, ...reducingLanes(recorder) } }, { lengths, logits, statistics }, heads);
      perEntry(recorder, operands, { source: SCORE, consts: { ...consts, VALUE_NORM: valueNorm, EPSILON: f32(epsilon) } }, {
        logits, statistics, scores, values: operands.values ?? keys,
      });
      protect(recorder, operands, { first: sinks });
    },
  };
}

/**
 * How many frequencies there are, then cos and then sin of each, averaged over `count` positions from `first` on; MOST_FREQUENCIES places
 * for each.
 */
export function meanRotation(first: number, count: number, { frequencies }: Pick<PressModel, "frequencies">): Float32Array {
  if (frequencies.length > MOST_FREQUENCIES) throw new Error(`expected_attention: ${frequencies.length} frequencies, room for ${MOST_FREQUENCIES}`);
  const params = new Float32Array(1 + 2 * MOST_FREQUENCIES);
  params[0] = frequencies.length;
  for (const [i, frequency] of frequencies.entries()) {
    let [cos, sin] = [0, 0];
    for (let position = first; position < first + count; position++) {
      cos += Math.cos(position * frequency);
      sin += Math.sin(position * frequency);
    }
    params[1 + i] = cos / count;
    params[1 + MOST_FREQUENCIES + i] = sin / count;
  }
  return params;
}

/** `ratio`: the share of entries to evict, in [0, 1). */
export function expectedAttention({ ratio, ...options }: ExpectedAttentionOptions & { readonly ratio: number }): Press {
  const { futurePositions = 512, sinks = 4, covariance = true, valueNorm = true, epsilon = 0 } = options;
  const parameters = {
    futurePositions, sinks, ...(!covariance && { "no covariance": true }), ...(!valueNorm && { "no value norm": true }), ...(epsilon > 0 && { epsilon }),
  };
  const stage = expectedAttentionStage({ ratio, futurePositions, sinks, covariance, valueNorm, epsilon });
  return prefillPress("expected_attention", ratio, stage, { parameters, moreThan: sinks });
}
