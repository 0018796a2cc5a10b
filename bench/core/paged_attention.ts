/**
 * The PagedAttention experiments. The first compares layouts: the same prompts, seeds and kernels, the same bytes of cache, at most
 * batch_size sequences at a time; the first of them twice. The second asks what a prefix cache gains when all prompts begin with the same text. Both are valid only
 * if the technique acted and, when greedy, changed nothing in the texts (compare.ts).
 */

import { checkRoom, closeArms, layoutArms, loadArms, type Arm, type LayoutArm, type Load } from "./arms.ts";
import { measure, type Job, type Outcome } from "./measure.ts";
import { choosePrompts, described, excerpt, type Prompts } from "./prompts.ts";
import type { ExperimentConfig } from "./schema.ts";
import type { Hooks } from "./turns.ts";

const ARMS: Readonly<Record<ExperimentConfig["method"], readonly (LayoutArm | "again")[]>> = {
  basic: ["contiguous-max"], optimized: ["paged"], both: ["contiguous-max", "again", "contiguous-exact", "paged"],
};

export async function runPagedAttention(config: ExperimentConfig, { texts }: Pick<Prompts, "texts">, load: Load, hooks: Hooks): Promise<Outcome> {
  const arms = await loadArms(layoutArms(ARMS[config.method], config), config, load);
  try {
    const jobs = await jobsOf(texts, config, arms.loaded);
    checkRoom(jobs, arms.loaded, "max_tokens");
    return await measure(arms, () => ({ set: 0, jobs }), config, hooks);
  } finally {
    await closeArms(arms.loaded);
  }
}

/**
 * Paged without and with a prefix cache. What follows the common text is different in every iteration, else whole prompts would be found
 * again and the cache would be praised for a workload that nobody has. `prompts`: what follows the common text, warm-up first.
 */
export async function runSharedPrefix(config: ExperimentConfig, load: Load, hooks: Hooks): Promise<{ outcome: Outcome; prompts: Prompts }> {
  const arms = await loadArms(layoutArms(["paged", "again", "paged-prefix"], config), config, load);
  try {
    const { tokenizer } = arms.loaded[0]!.llm;
    const shared = (await tokenizer.encode(excerpt(config.shared_prefix!))).slice(0, config.shared_prefix);
    const sets = new Map<number, readonly Job[]>();
    const all: string[] = [];
    for (let i = -config.warmup_iterations; i < config.test_iterations; i++) {
      const { texts } = choosePrompts(config, i + config.warmup_iterations);
      all.push(...texts);
      const jobs = await jobsOf(texts, config, arms.loaded);
      sets.set(i, jobs.map(({ ids, newTokens }) => ({ ids: [...shared, ...ids], newTokens })));
    }
    checkRoom([...sets.values()].flat(), arms.loaded, "max_tokens");
    const outcome = await measure(arms, (i) => ({ set: i, jobs: sets.get(i)!, shared: shared.length }), config, hooks);
    return { outcome, prompts: described(all, { kind: "cut", seed: config.seed }) };
  } finally {
    await closeArms(arms.loaded);
  }
}

export function jobsOf(texts: readonly string[], { max_tokens }: ExperimentConfig, [arm]: readonly Arm[]): Promise<Job[]> {
  return Promise.all(texts.map(async (text) => ({ ids: await arm!.llm.tokenizer.encode(text), newTokens: max_tokens })));
}
