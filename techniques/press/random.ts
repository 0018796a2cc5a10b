/** Entries at random: the negative control that every other press must beat. */

import { wgsl } from "../../engine/kernel.ts";
import { UsageError } from "../../engine/errors.ts";
import type { Press, PressStage } from "../../models/press.ts";
import { keepOf, perEntry, prefillPress } from "./prefill.ts";

const HASH = wgsl(new URL("./random.wgsl", import.meta.url));

/** Parameters of random beside its ratio. */
export interface RandomOptions {
  /** u32, 0 by default. */
  readonly seed?: number | undefined;
}

/**
 * score = the upper 24 bits, over 2²⁴, of pcg4d (Jarzynski and Olano 2020) of (index, head, layer, seed + acted · 0x9e3779b9): the same for
 * the same seed, and another choice each time the press acts. `ratio`: see `random`, 0 by default. Throws UsageError for a seed that is no
 * u32.
 */
export function randomStage({ ratio = 0, seed = 0 }: RandomOptions & { readonly ratio?: number | undefined } = {}): PressStage {
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffff_ffff) throw new UsageError(`random: seed must be an integer from 0 to ${0xffff_ffff}, not ${String(seed)}`);
  return {
    needs: {},
    keep: keepOf(ratio),
    newest: () => 0,
    paramCount: 2,
    params: ({ layer, acted }) => Float32Array.of(layer, acted),
    score(recorder, operands) {
      perEntry(recorder, operands, { source: HASH, consts: { SEED: seed } }, { params: operands.params, scores: operands.scores });
    },
  };
}

/** `ratio`: the share of entries to evict, in [0, 1). */
export function random({ ratio, ...options }: RandomOptions & { readonly ratio: number }): Press {
  return prefillPress("random", ratio, randomStage({ ratio, ...options }), { parameters: { seed: options.seed ?? 0 } });
}
