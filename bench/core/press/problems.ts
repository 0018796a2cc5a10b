/** What is wrong with a config of the experiments on presses, beside what every config can have wrong. */

import { UsageError } from "../../../engine/errors.ts";
import { parsePress } from "../../../techniques/press/spec.ts";
import { show, type ExperimentConfig, type Key, type Problem } from "../schema.ts";

/** `isGiven`: also keys whose values are wrong by themselves, which are not in `c`. A prompt shorter than prune_after is no mistake here: the run says INVALID. */
export function ofPresses(c: Partial<ExperimentConfig>, isGiven: (key: Key) => boolean): Problem[] {
  const problems: Problem[] = [];
  const add = (key: Key, message: string): void => { problems.push({ key, message }); };
  if (c.ignore_eos === false) add("ignore_eos", "the arms would write texts of different lengths and so do different work: set it to true");
  const { prompt_tokens: prompt, max_model_len: most } = c;
  const room = (key: "max_tokens" | "continuation"): void => {
    const tokens = c[key];
    if (prompt !== undefined && tokens !== undefined && most !== undefined && prompt + tokens > most) {
      add("prompt_tokens", `${prompt} and ${key} (${tokens}) are more than max_model_len (${most})`);
    }
  };
  room("max_tokens");
  if (c.technique === "KnormPress") {
    if (c.dataset !== undefined && c.dataset !== "bundled" && c.dataset !== "hub") add("dataset", `expected bundled or hub, got ${show(c.dataset)}: num_wikitext_samples and num_pg19_samples say how many of each`);
    if (c.num_wikitext_samples === 0 && c.num_pg19_samples === 0) add("num_wikitext_samples", "0, and so is num_pg19_samples: there is nothing to run");
    return problems;
  }
  room("continuation");
  if (!isGiven("kv_memory")) add("kv_memory", "is missing: bytes of keys and values, the budget that sequences are admitted to");
  if (c.perplexity_windows === 0) add("perplexity_windows", "0 leaves out what the presses cost in quality, which stands beside what they save: set it to 1 or more");
  for (const press of c.presses ?? []) {
    for (const ratio of c.ratios ?? []) {
      try {
        parsePress(press, ratio);
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        add("presses", `${show(press)}: ${error.message.split("\n")[0]!}`);
        break;
      }
    }
  }
  return problems;
}
