/**
 * The prompts of an experiment: given by the user, read from a file, or cut from the bundled texts (a novel and speeches that the bundled
 * models never saw). A cut begins at a sentence and has between 12 and 120 words, chosen by seed, so lengths vary as they do in use.
 */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { UsageError } from "../../engine/errors.ts";
import type { ExperimentConfig } from "./schema.ts";
import { seeded } from "./stats.ts";

const TEXTS = ["persuasion.txt", "sotu_heldout.txt"].map((name) => fileURLToPath(new URL(`../../assets/texts/${name}`, import.meta.url)));
const WORDS = { min: 12, max: 120 };

export interface Prompts {
  readonly texts: readonly string[];
  /** Where they come from, in words. */
  readonly origin: string;
  readonly sha256: string;
}

/** Throws UsageError when the file cannot be read or holds fewer prompts than are asked for. */
export function choosePrompts({ prompts, prompts_file, num_prompts, seed }: ExperimentConfig): Prompts {
  if (prompts !== undefined) return described(prompts.slice(0, num_prompts), "the config or the command line");
  if (prompts_file !== undefined) return described(fromFile(prompts_file, num_prompts), prompts_file);
  const random = seeded(seed);
  const starts = TEXTS.map(sentences);
  const texts = Array.from({ length: num_prompts }, (_, i) => cut(starts[i % starts.length]!, random));
  return described(texts, `assets/texts, cut at sentences by seed ${seed}`);
}

function described(texts: readonly string[], origin: string): Prompts {
  return { texts, origin, sha256: createHash("sha256").update(JSON.stringify(texts)).digest("hex") };
}

function fromFile(path: string, count: number): string[] {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new UsageError(`prompts_file ${path}: ${code === "ENOENT" ? "no such file" : code === "EISDIR" ? "is a folder" : code?.startsWith("ERR_ENCODING") ? "is not UTF-8 text" : "cannot be read"}`);
  }
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (lines.length < count) throw new UsageError(`prompts_file ${path}: has ${lines.length} prompts (one per line), but num_prompts is ${count}`);
  return lines.slice(0, count);
}

/** The words of a text, and which of them begin a sentence. */
interface Sentences { readonly words: readonly string[]; readonly starts: readonly number[] }

function sentences(path: string): Sentences {
  const words = readFileSync(path, "utf8").split(/\s+/);
  const starts = words.flatMap((word, i) => i > 0 && /[.!?]["”']?$/.test(words[i - 1]!) && /^["“]?[A-Z][a-z]/.test(word) && i + WORDS.max < words.length ? [i] : []);
  return { words, starts };
}

function cut({ words, starts }: Sentences, random: () => number): string {
  const start = starts[Math.floor(random() * starts.length)]!;
  return words.slice(start, start + WORDS.min + Math.floor(random() * (WORDS.max - WORDS.min + 1))).join(" ");
}
