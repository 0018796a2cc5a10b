/**
 * The first tokens and the newest (Xiao et al. 2024, arXiv 2309.17453). The first ones are where heads with nothing to look at put their
 * attention; without them a model with a sliding window breaks down.
 */

import { wgsl } from "../../engine/kernel.ts";
import type { Press, PressStage } from "../../models/press.ts";
import { keepOf, perEntry, prefillPress, requireCount } from "./prefill.ts";

const PLACE = wgsl(new URL("./streaming_llm.wgsl", import.meta.url));

/** Parameters of streaming_llm beside its ratio. */
export interface StreamingLlmOptions {
  /** First tokens that always stay, 4 by default. */
  readonly sinks?: number | undefined;
}

/**
 * score = index, and of the first `sinks` entries length + sinks − index: whatever number is kept, it is the sinks and the newest. (kvpress
 * scores 1 what its ratio leaves, else 0: the same entries stay.) `ratio`: see `streamingLlm`, 0 by default.
 */
export function streamingLlmStage({ ratio = 0, sinks = 4 }: StreamingLlmOptions & { readonly ratio?: number | undefined } = {}): PressStage {
  requireCount(sinks, 0, "streaming_llm: sinks");
  return {
    needs: {},
    keep: keepOf(ratio),
    newest: (kept) => Math.max(0, kept - sinks),
    paramCount: 0,
    params: () => new Float32Array(0),
    score(recorder, operands) {
      perEntry(recorder, operands, { source: PLACE, consts: { SINKS: sinks } }, { scores: operands.scores });
    },
  };
}

/** `ratio`: the share of entries to evict, in [0, 1). */
export function streamingLlm({ ratio, ...options }: StreamingLlmOptions & { readonly ratio: number }): Press {
  return prefillPress("streaming_llm", ratio, streamingLlmStage({ ratio, ...options }), { parameters: { sinks: options.sinks ?? 4 } });
}
