/**
 * What the exhibits share: a shape, a way to be run from the command line, the bundled model and its text. An exhibit makes a misleading
 * measurement as it is made in the wild, then the honest one, and asks the gate of the benchmark. Its figures come from running it.
 */

import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { benchCommand, print, runCommand, startCommand } from "../../bench/core/cli.ts";
import { LLM, type LoadOptions } from "../../index.ts";

/** A conclusion in a sentence or more, beside the figures it was drawn from. */
export interface Told { readonly says: string }

export interface Exhibit<Misleading extends Told = Told, Honest extends Told = Told> {
  /** What the misleading measurement says. */
  readonly misleading: Misleading;
  /** What is true, and why. */
  readonly honest: Honest;
  /** What the gate of the benchmark says to the misleading measurement; null if it lets it pass. */
  readonly gate: string | null;
}

/** As of a benchmark that is INVALID: an exhibit that its gate lets pass belongs into no museum. */
const EXIT_PASSED = 5;

/** The exhibit as text for a terminal. */
export function labelled(title: string, { misleading, honest, gate }: Exhibit): string {
  const part = (head: string, text: string): string => `${head}\n${text.split("\n").map((line) => `  ${line}`).join("\n")}\n`;
  return [
    `${title}\n${"=".repeat(title.length)}\n`, part("What the measurement says", misleading.says), part("What is true", honest.says),
    part("What the gate says", gate ?? "Nothing: it let this pass. Here and today the exhibit fools nobody, or the gate is broken."),
  ].join("\n");
}

/** Runs and prints the exhibit of the module at `url` where that is the program that Node was started with; else does nothing. */
export async function show(url: string, title: string, exhibit: () => Promise<Exhibit>): Promise<void> {
  const [, program] = process.argv, path = fileURLToPath(url);
  if (program === undefined || realpathSync(program) !== realpathSync(path)) return;
  await startCommand((argv) => runCommand(benchCommand(new Command("exhibit.ts").description(title)), argv, async () => {
    const found = await exhibit();
    await print(`${labelled(title, found)}\n`);
    return found.gate === null ? EXIT_PASSED : 0;
  }));
}

/** How a model is loaded to be shown here: without a prefix cache, which would find a repeated prompt again. */
export const TINY: LoadOptions = { prefixCache: false, maxModelLen: 512 };

/** Runs `body` with `given`, or else with the bundled model, which is closed afterwards. */
export async function withTiny<M, T>(given: M | undefined, options: LoadOptions, body: (llm: M | LLM) => Promise<T>): Promise<T> {
  if (given !== undefined) return body(given);
  const llm = await LLM.load("tiny-neox", { ...TINY, ...options });
  try {
    return await body(llm);
  } finally {
    await llm.close();
  }
}

const PERSUASION = new URL("../../assets/texts/persuasion.txt", import.meta.url);

/** The bundled novel, which the bundled models have not read. */
export function novel(): string {
  return readFileSync(PERSUASION, "utf8");
}

interface Encodes { readonly tokenizer: { encode(text: string): readonly number[] | Promise<readonly number[]> } }

/** `count` tokens of the novel behind its first `from` ones. */
export async function excerpt({ tokenizer }: Encodes, from: number, count: number): Promise<number[]> {
  const ids = await tokenizer.encode(novel().slice(0, 12 * (from + count)));
  return ids.slice(from, from + count);
}

/** Samples of measurements that nothing interrupts and nobody watches. */
export const QUIETLY = { signal: new AbortController().signal, onStep: () => {} };

export function ms(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}
