/**
 * Lengths of requests, drawn by seed: how much a cache wastes depends on nothing as much as on them. All four are synthetic. The first two
 * have the mean lengths that the paper gives for its data sets (Kwon et al. 2023, figure 11: ShareGPT 161 tokens in and 338 out, Alpaca 19 and
 * 58) and log-normal shapes; the paper prints no variance, so the spreads are ours. The paper's models had a context of 2,048 tokens: lengths
 * scale with max_model_len / 2048, and a request that is longer than max_model_len is drawn again, as serving benchmarks leave such out.
 */

import type { Lengths } from "../../techniques/paged_attention/index.ts";
import { seeded } from "./stats.ts";

export const DISTRIBUTIONS = ["sharegpt", "alpaca", "uniform", "constant"] as const;
export type Distribution = (typeof DISTRIBUTIONS)[number];

/** Context of the models of the paper, in tokens. */
const PAPER_CONTEXT = 2048;

/** Mean of a log-normal in tokens at the paper's context, and the standard deviation of its logarithm. */
export interface LogNormal { readonly mean: number; readonly sigma: number }
export const LOG_NORMAL: Readonly<Record<"sharegpt" | "alpaca", { readonly prompt: LogNormal; readonly output: LogNormal }>> = {
  sharegpt: { prompt: { mean: 161.31, sigma: 1.2 }, output: { mean: 337.99, sigma: 0.9 } },
  alpaca: { prompt: { mean: 19.31, sigma: 0.4 }, output: { mean: 58.45, sigma: 0.9 } },
};

/** Prompt and output each between 1 token and half of the context. */
const UNIFORM_SHARE = 1 / 2;
/** Prompt and output an eighth of the context each: every request takes a quarter of the maximum. */
const CONSTANT_SHARE = 1 / 8;
const MOST_TRIES = 1000;

/** `count` requests, each of at least one token in and out and at most `maxModelLen` together. */
export function drawLengths(name: Distribution, count: number, maxModelLen: number, seed: number): Lengths[] {
  const random = seeded(seed);
  return Array.from({ length: count }, () => {
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const drawn = draw(name, maxModelLen, random);
      if (drawn.prompt + drawn.output <= maxModelLen) return drawn;
    }
    throw new Error(`no ${name} request of at most ${maxModelLen} tokens in ${MOST_TRIES} tries`);
  });
}

function draw(name: Distribution, maxModelLen: number, random: () => number): Lengths {
  const whole = (tokens: number): number => Math.max(1, Math.round(tokens));
  if (name === "constant") return { prompt: whole(maxModelLen * CONSTANT_SHARE), output: whole(maxModelLen * CONSTANT_SHARE) };
  if (name === "uniform") {
    const most = Math.max(1, Math.floor(maxModelLen * UNIFORM_SHARE));
    return { prompt: 1 + Math.floor(random() * most), output: 1 + Math.floor(random() * most) };
  }
  const { prompt, output } = LOG_NORMAL[name];
  const scale = maxModelLen / PAPER_CONTEXT;
  return { prompt: whole(scale * logNormal(prompt, random)), output: whole(scale * logNormal(output, random)) };
}

/** exp(μ + σz) with z normal (Box and Muller 1958) and μ such that the mean is right: ln(mean) − σ² / 2. */
function logNormal({ mean, sigma }: LogNormal, random: () => number): number {
  const z = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.exp(Math.log(mean) - sigma ** 2 / 2 + sigma * z);
}
