/** What is wrong with a config of `combos`, beside what every config can have wrong. */

import { UsageError } from "../../../engine/errors.ts";
import { nearest } from "../../../engine/nearest.ts";
import { draftOptionsOf } from "../../../techniques/speculation/spec.ts";
import { parsePress } from "../../../techniques/press/spec.ts";
import { controlOf } from "./arms.ts";
import { ARM_SETTINGS, FIELDS, show, type ArmSettings, type ExperimentConfig, type Key, type Problem } from "../schema.ts";

const SETTINGS = Object.keys(ARM_SETTINGS.shape) as readonly (keyof ArmSettings)[];
/** In words, what a setting may be; where a config has a key of the same name, as that has it. */
const EXPECTED: Readonly<Record<keyof ArmSettings, string>> = {
  weights: FIELDS.weights[1], kv: FIELDS.kv[1], layout: "contiguous-max, contiguous-exact, paged or paged-prefix", press: "a press, such as snapkv or adakv(snapkv)",
  ratio: "the share to evict, from 0 to below 1", draft: "a model, prompt-lookup, or self: and a format", k: "tokens per round, a whole number from 1, or adaptive",
};

export function ofCombos(c: Partial<ExperimentConfig>, isGiven: (key: Key) => boolean): Problem[] {
  const problems: Problem[] = [];
  const add = (key: Key, message: string): void => { problems.push({ key, message }); };
  if (!isGiven("arms")) add("arms", `is missing, expected ${FIELDS.arms[1]}`);
  if (c.ignore_eos === false) add("ignore_eos", "the arms would write texts of different lengths and so do different work: set it to true");
  const { prompt_tokens: prompt, max_model_len: most } = c;
  for (const key of ["max_tokens", "continuation"] as const) {
    if (prompt !== undefined && c[key] !== undefined && most !== undefined && prompt + c[key] > most) {
      add("prompt_tokens", `${prompt} and ${key} (${c[key]}) are more than max_model_len (${most})`);
    }
  }
  const names = Object.keys(c.arms ?? {}), [first] = names;
  // The language puts such keys before all others, wherever they stand: the baseline would be another one than the first in the file.
  for (const name of names) if (/^\d+$/.test(name)) add("arms", `${name}: digits alone are no name of an arm; add a word`);
  if (first !== undefined && names.includes(controlOf(first))) add("arms", `${controlOf(first)}: is the name of the first arm's second run; take another`);
  if (first !== undefined && c.arms![first]!["press"] !== undefined) {
    add("arms", `${first}: the first arm is what the quality of the others is measured against, so it may evict nothing; put one without a press before it`);
  }
  for (const [name, settings] of Object.entries(c.arms ?? {})) {
    for (const message of ofArm(settings)) add("arms", `${name}: ${message}`);
  }
  if (c.perplexity_windows === 0 && Object.values(c.arms ?? {}).some(({ weights, kv, press }) => weights !== undefined || kv !== undefined || press !== undefined)) {
    add("perplexity_windows", "0 leaves out what quantizing and evicting cost in quality, which stands before what they gain: set it to 1 or more");
  }
  return problems;
}

function ofArm(settings: Readonly<Record<string, unknown>>): string[] {
  const unknown = Object.keys(settings).filter((key) => !SETTINGS.includes(key as keyof ArmSettings));
  const wrong = SETTINGS.filter((key) => settings[key] !== undefined && !ARM_SETTINGS.shape[key].safeParse(settings[key]).success);
  const messages = [
    ...unknown.map((key) => {
      const [close] = nearest(key, SETTINGS);
      return `unknown setting ${key}${close === undefined ? `; an arm may set ${SETTINGS.join(", ")}` : `; did you mean ${close}?`}`;
    }),
    ...wrong.map((key) => `${key}: expected ${EXPECTED[key]}, got ${show(settings[key])}`),
  ];
  if (messages.length > 0) return messages;
  const { press, ratio, draft, k, layout } = settings as ArmSettings;
  if (ratio !== undefined && press === undefined) messages.push("ratio has no effect without a press; take it out or name one");
  if (k !== undefined && draft === undefined) messages.push("k has no effect without a draft; take it out or name one");
  if (press !== undefined && layout !== undefined && layout.startsWith("contiguous")) {
    messages.push(`a press gives blocks back, which a ${layout} cache does not have: set layout to paged`);
  }
  const refused = (what: string, body: () => unknown): void => {
    try {
      body();
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      messages.push(`${what} ${error.message.replace(/^draft: /, "").split("\n")[0]!}`);
    }
  };
  if (press !== undefined) refused(`press ${show(press)}:`, () => parsePress(press, ratio ?? 0.5));
  if (draft !== undefined) refused(`draft ${show(draft)}:`, () => draftOptionsOf({ model: draft }));
  return messages;
}
