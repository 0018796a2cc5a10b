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

/** Where prompts come from; a report says it in its language. */
export type Origin = { readonly kind: "given" } | { readonly kind: "file"; readonly path: string } | { readonly kind: "cut" | "drawn"; readonly seed: number };

export interface Prompts {
  readonly texts: readonly string[];
  readonly origin: Origin;
  readonly sha256: string;
}

/**
 * `set`: another set of cuts of the same seed; prompts that are given are the same in all. Throws UsageError when the file cannot be read
 * or holds fewer prompts than are asked for.
 */
export function choosePrompts({ prompts, prompts_file, num_prompts, seed }: ExperimentConfig, set = 0): Prompts {
  if (prompts !== undefined) return described(prompts.slice(0, num_prompts), { kind: "given" });
  if (prompts_file !== undefined) return described(fromFile(prompts_file, num_prompts), { kind: "file", path: prompts_file });
  const random = seeded(seed);
  const starts = TEXTS.map(sentences);
  for (let skipped = 0; skipped < set * num_prompts; skipped++) cut(starts[skipped % starts.length]!, random);
  const texts = Array.from({ length: num_prompts }, (_, i) => cut(starts[i % starts.length]!, random));
  return described(texts, { kind: "cut", seed });
}

export function described(texts: readonly string[], origin: Origin): Prompts {
  return { texts, origin, sha256: createHash("sha256").update(JSON.stringify(texts)).digest("hex") };
}

/** This many words of a bundled text from a place chosen by `random`; from its beginning without. The text begins again at its end. */
export function excerpt(count: number, random: () => number = () => 0): string {
  const { words } = sentences(TEXTS[0]!);
  const start = Math.floor(random() * words.length);
  return Array.from({ length: count }, (_, i) => words[(start + i) % words.length]!).join(" ");
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

const read = new Map<string, Sentences>();

function sentences(path: string): Sentences {
  const known = read.get(path);
  if (known !== undefined) return known;
  const words = readFileSync(path, "utf8").split(/\s+/).filter((word) => word !== "");
  const starts = words.flatMap((word, i) => i > 0 && /[.!?]["”']?$/.test(words[i - 1]!) && /^["“]?[A-Z][a-z]/.test(word) && i + WORDS.max < words.length ? [i] : []);
  read.set(path, { words, starts });
  return { words, starts };
}

function cut({ words, starts }: Sentences, random: () => number): string {
  const start = starts[Math.floor(random() * starts.length)]!;
  return words.slice(start, start + WORDS.min + Math.floor(random() * (WORDS.max - WORDS.min + 1))).join(" ");
}
