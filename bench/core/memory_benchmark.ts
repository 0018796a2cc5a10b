/**
 * `--benchmark-memory`: how many sequences a fixed budget of keys and values holds, and what becomes of the memory that paging frees. All
 * three layouts get the same bytes and may run as many sequences as they hold, so that memory alone limits them; requests have lengths
 * drawn from several distributions (lengths.ts). Every number is there twice: by arithmetic, and measured while the arms really run.
 */

import { lifetimeWaste, type Lengths } from "../../techniques/paged_attention/index.ts";
import { checkRoom, closeArms, layoutArms, loadArms, type ArmName, type Load } from "./arms.ts";
import { DISTRIBUTIONS, drawLengths, type Distribution } from "./lengths.ts";
import { measure, type Job, type Outcome } from "./measure.ts";
import { described, excerpt, type Prompts } from "./prompts.ts";
import type { ExperimentConfig } from "./schema.ts";
import { seeded } from "./stats.ts";
import type { Hooks } from "./turns.ts";

/** One distribution. */
export interface MemoryCell {
  readonly distribution: Distribution;
  readonly lengths: readonly Lengths[];
  /** Waste over the lives of these requests by arithmetic, of each arm that ran. */
  readonly expectedWaste: Readonly<Partial<Record<ArmName, number>>>;
  readonly outcome: Outcome;
}

export interface MemoryOutcome {
  readonly status: Outcome["status"];
  /** Those that were begun. */
  readonly cells: readonly MemoryCell[];
  /** Tokens that the budget holds. */
  readonly budgetTokens: number;
  readonly prompts: Prompts;
}

export async function runMemoryBenchmark(config: ExperimentConfig, load: Load, hooks: Hooks): Promise<MemoryOutcome> {
  const arms = await loadArms(layoutArms(["contiguous-max", "again", "contiguous-exact", "paged"], config), config, load, { memoryAlone: true });
  try {
    const { loaded } = arms, { llm } = loaded[0]!;
    const cells: MemoryCell[] = [];
    const texts: string[] = [];
    for (const distribution of config.distributions ?? DISTRIBUTIONS) {
      const lengths = drawLengths(distribution, config.num_prompts, llm.maxModelLen, config.seed);
      const jobs = await jobsOf(lengths, config.seed, llm.tokenizer.encode.bind(llm.tokenizer), texts);
      checkRoom(jobs, loaded, "max_model_len");
      const outcome = await measure(arms, () => ({ set: 0, jobs }), config, hooks, `${distribution}: `);
      const expectedWaste = Object.fromEntries(loaded.map(({ name, layout }) => [name, lifetimeWaste(layout, lengths, llm.maxModelLen)]));
      cells.push({ distribution, lengths, expectedWaste, outcome });
      if (outcome.status === "interrupted") break;
    }
    return {
      status: cells.at(-1)!.outcome.status, cells, budgetTokens: Math.max(...loaded.map(({ entries }) => entries)),
      prompts: described(texts, { kind: "drawn", seed: config.seed }),
    };
  } finally {
    await closeArms(arms.loaded);
  }
}

/** Prompts of exactly the drawn lengths; every word is at least one token. Adds the text that each was cut from. */
function jobsOf(lengths: readonly Lengths[], seed: number, encode: (text: string) => number[] | Promise<number[]>, texts: string[]): Promise<Job[]> {
  const random = seeded(seed);
  return Promise.all(lengths.map(async ({ prompt, output }) => {
    const text = excerpt(prompt, random);
    texts.push(text);
    return { ids: (await encode(text)).slice(0, prompt), newTokens: output };
  }));
}
