/**
 * What is asked for: prompts as token ids, with the number of new tokens each. Random ids have exactly the lengths that were asked for
 * and share nothing, so a prefix cache cannot help by accident; a file gives real texts.
 */

import { createHash } from "node:crypto";
import { ContextLengthError, UsageError } from "../../../engine/errors.ts";
import type { ModelConfig } from "../../../index.ts";
import { choosePrompts } from "../prompts.ts";
import type { ExperimentConfig } from "../schema.ts";
import { seeded } from "../stats.ts";
import type { LoadConfig } from "./options.ts";

export interface Asked { readonly ids: readonly number[]; readonly maxNewTokens: number; readonly seed: number }

export interface Workload {
  readonly requests: readonly Asked[];
  /** Run before the clock starts; not among the requests, so that these find nothing of themselves in a prefix cache. */
  readonly warmups: readonly Asked[];
  readonly origin: string;
  /** Of ids and lengths. */
  readonly sha256: string;
}

/** What the workload needs of an LLM. */
export interface Vocabulary {
  readonly config: Pick<ModelConfig, "vocabSize" | "eosTokenIds" | "bosTokenId">;
  readonly tokenizer: { readonly vocabSize: number; encode(text: string): number[] | Promise<number[]> };
  readonly maxModelLen: number;
}

/** Throws UsageError for a file that cannot be used, ContextLengthError for requests that could not do all their work. */
export async function makeWorkload(config: LoadConfig, llm: Vocabulary): Promise<Workload> {
  const { seed, outputLen, rangeRatio, numPrompts, numWarmups } = config;
  const lengths = seeded(seed ^ 0x6c65_6e67);
  const near = (length: number): number => {
    const [low, high] = [Math.max(1, Math.floor(length * (1 - rangeRatio))), Math.ceil(length * (1 + rangeRatio))];
    return low + Math.floor(lengths() * (high - low + 1));
  };
  const { prompts, warm, origin } = await promptsFor(config, llm, near);
  const asked = (ids: readonly number[], i: number): Asked => ({ ids, maxNewTokens: near(outputLen), seed: (seed + i) >>> 0 });
  const requests = prompts.map(asked);
  const warmups = Array.from({ length: numWarmups }, (_, i) => ({ ...asked(warm[i % warm.length]!, numPrompts + i), maxNewTokens: outputLen }));
  checkLengths([...requests, ...warmups], llm.maxModelLen);
  return { requests, warmups, origin, sha256: createHash("sha256").update(JSON.stringify(requests)).digest("hex") };
}

async function promptsFor(
  { promptsFile, numPrompts, numWarmups, seed, inputLen, prefixLen }: LoadConfig, llm: Vocabulary, near: (length: number) => number,
): Promise<{ prompts: number[][]; warm: number[][]; origin: string }> {
  if (promptsFile === null) {
    const token = randomTokens(llm, seed);
    const prefix = Array.from({ length: prefixLen }, token);
    const prompt = (): number[] => [...prefix, ...Array.from({ length: near(inputLen) }, token)];
    const prompts = Array.from({ length: numPrompts }, prompt);
    const shared = prefixLen === 0 ? "" : ` behind ${prefixLen} that all share`;
    const warm = Array.from({ length: Math.max(1, numWarmups) }, () => Array.from({ length: inputLen }, token));
    return { prompts, warm, origin: `random tokens by seed ${seed}${shared}` };
  }
  const { texts } = fromFile(promptsFile, numPrompts);
  const prompts = await Promise.all(texts.map((text) => llm.tokenizer.encode(text)));
  const token = randomTokens(llm, seed);
  return { prompts, warm: [prompts[0]!.map(token)], origin: promptsFile };
}

/** Ids that a text could give, without those that end or begin one. */
export function randomTokens({ config, tokenizer }: Pick<Vocabulary, "config" | "tokenizer">, seed: number): () => number {
  const random = seeded(seed ^ 0x746f_6b65);
  const size = Math.min(config.vocabSize, tokenizer.vocabSize);
  const control = new Set([...config.eosTokenIds, config.bosTokenId]);
  const ids = Array.from({ length: size }, (_, id) => id).filter((id) => !control.has(id));
  return () => ids[Math.floor(random() * ids.length)]!;
}

function fromFile(prompts_file: string, num_prompts: number): { readonly texts: readonly string[] } {
  try {
    return choosePrompts({ prompts_file, num_prompts, seed: 0 } as ExperimentConfig);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(error.message.replace(/^prompts_file /, "--prompts-file ").replace("num_prompts", "--num-prompts"), { cause: error });
  }
}

/** Every request must have room for all its tokens, else the load would not be the one that was asked for. */
function checkLengths(requests: readonly Asked[], maxModelLen: number): void {
  const empty = requests.findIndex(({ ids }) => ids.length === 0);
  if (empty >= 0) throw new UsageError(`prompt ${empty + 1} has no tokens: take it out of the --prompts-file`);
  for (const [i, { ids, maxNewTokens }] of requests.entries()) {
    if (ids.length + maxNewTokens <= maxModelLen) continue;
    throw new ContextLengthError(
      `prompt ${i + 1} has ${ids.length} tokens; with ${maxNewTokens} new ones it needs ${ids.length + maxNewTokens}, ` +
      `but a sequence has room for ${maxModelLen}: ` + "lower --input-len or --output-len, or raise --max-model-len",
    );
  }
}
