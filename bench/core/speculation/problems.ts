/** What is wrong with a config of `spec_decode`, beside what every config can have wrong. */

import { UsageError } from "../../../engine/errors.ts";
import { draftOptionsOf } from "../../../techniques/speculation/spec.ts";
import { show, type ExperimentConfig, type Key, type Problem } from "../schema.ts";
import { draftLengths } from "./k.ts";
import { datasetsOf, pictureOf } from "./samples.ts";

export function ofSpeculation(c: Partial<ExperimentConfig>): Problem[] {
  const problems: Problem[] = [];
  const add = (key: Key, message: string): void => { problems.push({ key, message }); };
  if (c.ignore_eos === false) add("ignore_eos", "the arms would write texts of different lengths and so do different work: set it to true");
  const { prompt_tokens: prompt, max_tokens: fresh, max_model_len: most } = c;
  if (prompt !== undefined && fresh !== undefined && most !== undefined && prompt + fresh > most) {
    add("prompt_tokens", `${prompt} and max_tokens (${fresh}) are more than max_model_len (${most})`);
  }
  const longest = c.k === undefined ? undefined : draftLengths(c.k)?.at(-1);
  if (longest !== undefined && fresh !== undefined && longest + 2 > fresh) {
    add("k", `${longest} leaves no room for a round of ${longest} drafted tokens and one more behind the first of max_tokens (${fresh}): ` +
      `raise max_tokens or lower k`);
  }
  for (const model of c.draft ?? []) {
    try {
      draftOptionsOf({ model });
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      add("draft", `${show(model)}: ${error.message.replace(/^draft: /, "").split("\n")[0]!}`);
    }
  }
  const names = c.dataset === undefined ? [] : datasetsOf(c.dataset);
  const likeOf = (name: string): string => names.find((other) => pictureOf(other) === pictureOf(name))!;
  const twice = names.find((name) => likeOf(name) !== name);
  if (twice !== undefined) {
    add("dataset", `${likeOf(twice)} and ${twice} would both be drawn as speculative_comparison_${pictureOf(twice)}; keep one`);
  }
  return problems;
}
