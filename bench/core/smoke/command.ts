/**
 * `node bench/smoke.ts`: does a press work at all on this model and this machine? A short context is read, pressed and continued; what was
 * kept and freed is said, and the exit code is 5 when either is nothing.
 */

import { Command } from "commander";
import { LLM, type GenerateOptions, type GenerateResult, type LoadOptions } from "../../../index.ts";
import type { Press } from "../../../models/press.ts";
import { parsePress, pressOf } from "../../../techniques/press/spec.ts";
import { benchCommand, interruptible, oneLine, runCommand, startCommand, withoutControls } from "../cli.ts";
import { loadSample } from "../datasets/load.ts";
import { anyText, once, readFlags, real, refuse, whole } from "../load/flags.ts";

/** What the check needs of an LLM; tests give a stand-in. */
export interface Smoked extends Pick<LLM, "source" | "close"> {
  readonly tokenizer: { encode(text: string): readonly number[] | Promise<readonly number[]>; decode(ids: readonly number[]): string | Promise<string> };
  generate(ids: readonly number[], options: GenerateOptions): Promise<GenerateResult>;
}
export interface SmokeTools {
  readonly load: (model: string, options: LoadOptions) => Promise<Smoked>;
  readonly press: (text: string, ratio: number) => Press;
}

const LIBRARY: SmokeTools = { load: (model, options) => LLM.load(model, options), press: (text, ratio) => pressOf(parsePress(text, ratio)) };

const EXIT_IDLE = 5;
const RULES = {
  model: anyText, press: anyText, compressionRatio: real(0, { max: 1, openMax: true }), contextTokens: whole(2), maxNewTokens: whole(1), adapter: anyText,
} as const;

function program(): Command {
  return benchCommand(new Command("node bench/smoke.ts")
    .description("Press a short context, generate a few tokens, and say what was kept and freed: a check that takes seconds. Exit code 5: nothing was evicted.")
    .option("--model <model>", "a folder, a bundled name, a hub id, or random:NAME (default: tiny-neox)", once)
    .option("--press <name>", "knorm (default), snapkv, ..., nested as in \"adakv(snapkv)\"", once)
    .option("--compression-ratio <ratio>", "share of the cache to evict (default: 0.5)", once)
    .option("--context-tokens <count>", "of the bundled novel (default: 192)", once)
    .option("--max-new-tokens <count>", "(default: 24)", once)
    .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, or part of an adapter's name", once));
}

async function execute(flags: Readonly<Record<string, unknown>>, { load, press: make }: SmokeTools): Promise<number> {
  const problems: string[] = [], values = readFlags(RULES, flags, problems);
  refuse(problems);
  const { model = "tiny-neox", compressionRatio = 0.5, contextTokens = 192, maxNewTokens = 24, adapter = "auto" } = values;
  const press = make(values.press ?? "knorm", compressionRatio);
  const { text } = await loadSample({ dataset: "pg19-sample", subset: null, index: 0 });
  const started = performance.now();
  const llm = await load(model, { adapter, prefixCache: false, maxSequences: 2, maxModelLen: contextTokens + maxNewTokens });
  try {
    const context = (await llm.tokenizer.encode(text)).slice(0, contextTokens);
    const result = await interruptible((signal) => llm.generate(context, { press, maxNewTokens, ignoreEos: true, signal }));
    const { code, lines } = smokeReport(result);
    const end = await llm.tokenizer.decode(context.slice(-24)), seconds = ((performance.now() - started) / 1000).toFixed(1);
    process.stdout.write([
      `${llm.source.id}, ${press.name}: ${context.length} tokens of Persuasion, ${result.ids.length} new ones, ${seconds} s with loading`, ...lines,
      `text: …${withoutControls(oneLine(end))} |${withoutControls(oneLine(result.text))}`,
      ...(llm.source.random ? ["random weights: the text means nothing"] : []), "",
    ].join("\n"));
    return code;
  } finally {
    await llm.close();
  }
}

/** What the press did, in words, and the exit code that follows. */
export function smokeReport({ stats: { press } }: Pick<GenerateResult, "stats">): { code: number; lines: string[] } {
  if (press === undefined) return { code: EXIT_IDLE, lines: ["INVALID: the press was not there"] };
  const { events, evicted, kept, seen, freedBytes, ms } = press, counts = kept.flat();
  if (evicted === 0) {
    return { code: EXIT_IDLE, lines: [`INVALID: nothing was evicted: the press acted ${events} time${events === 1 ? "" : "s"} on ${seen} tokens`] };
  }
  if (counts.every((count) => count === 0)) return { code: EXIT_IDLE, lines: [`INVALID: the press left nothing of ${seen} tokens in any head`] };
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return {
    code: 0,
    lines: [
      `kept ${least === most ? least : `${least} to ${most}`} of ${seen} entries in each of ${counts.length} KV heads (${kept.length} layers); `
        + `evicted ${evicted} in ${events} act${events === 1 ? "" : "s"}, ${ms.toFixed(1)} ms`,
      `freed ${(freedBytes / 1024).toFixed(1)} KiB of the KV cache`,
    ],
  };
}

/** Returns the exit code. `tools` stand in for the model and the presses in tests. */
export function main(argv: readonly string[], tools: SmokeTools = LIBRARY): Promise<number> {
  return runCommand(program(), argv, (command) => execute(command.opts(), tools));
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
