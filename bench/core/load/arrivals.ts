/**
 * When requests arrive. Gaps between arrivals are gamma distributed with mean 1 / rate and shape `burstiness`, as in `vllm bench serve`:
 * 1 makes a Poisson process, less makes bursts, more makes arrivals regular. vLLM then stretches the schedule until its last
 * arrival falls on count / rate exactly; here it stays as it was drawn, so that a Poisson process is one.
 */

import { seeded } from "../stats.ts";

/**
 * Milliseconds from the start at which each request arrives, ascending; the first arrives at 0, since a gap before it would measure
 * nothing. `rate` in requests per second; null: all at once.
 */
export function arrivalTimes(count: number, rate: number | null, burstiness: number, seed: number): number[] {
  if (rate === null) return Array.from({ length: count }, () => 0);
  const draw = gammaSampler(burstiness, seeded(seed));
  const scale = 1000 / (rate * burstiness);
  let time = 0;
  return Array.from({ length: count }, (_, i) => (i === 0 ? 0 : (time += scale * draw())));
}

/** Draws of a gamma distribution of this shape (above 0) and scale 1: Marsaglia and Tsang, A simple method for generating gamma variables, 2000. */
export function gammaSampler(shape: number, random: () => number): () => number {
  if (shape < 1) {
    // Their section 6: gamma(a) = gamma(a + 1) · U^(1/a).
    const larger = gammaSampler(shape + 1, random);
    return () => larger() * (1 - random()) ** (1 / shape);
  }
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  return () => {
    for (;;) {
      const x = normal(random);
      const v = (1 + c * x) ** 3;
      // 1 − random() is in (0, 1]: its logarithm is finite.
      if (v > 0 && Math.log(1 - random()) < 0.5 * x * x + d * (1 - v + Math.log(v))) return d * v;
    }
  };
}

/** One standard normal number (Box and Muller 1958). */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
