/**
 * What every command shares with the terminal: reading argv, writing text, showing a long wait, and leaving, be it by an error, a
 * signal or a closed pipe. An error of engine/errors.ts is a line and an exit code; anything else is our own bug and says so.
 */

import { once } from "node:events";
import { inspect } from "node:util";
import { SingleBar } from "cli-progress";
import { CommanderError, type Command } from "commander";
import { DawnlmError } from "../../engine/errors.ts";
import type { LoadProgress } from "../../models/options.ts";

export const EXIT_INTERRUPTED = 130;
const EXIT_TERMINATED = 143;
const PROGRESS_AFTER_MS = 2000;

/** Long options with underscores as those with hyphens: `--max_tokens` is `--max-tokens`. Values and what follows `--` stay as they are. */
export function normaliseArgv(argv: readonly string[], program: Command): string[] {
  const options = [program, ...program.commands].flatMap((command) => [...command.options]);
  const end = argv.indexOf("--");
  let isValue = false;
  return argv.map((argument, index) => {
    const [, name, value = ""] = /^--([\w-]+)(=[^]*)?$/.exec(argument) ?? [];
    const known = options.find(({ long, short }) => (name === undefined ? short === argument : long === `--${name.replaceAll("_", "-")}`));
    if (isValue || (end >= 0 && index >= end)) {
      isValue = false;
      return argument;
    }
    isValue = known?.required === true && value === "";
    return name === undefined || known === undefined ? argument : `${known.long}${value}`;
  });
}

/** What every command of the bench has in the end: --debug, --help, no arguments beside its flags, and errors that are thrown, in our words. */
export function benchCommand(command: Command): Command {
  return command
    .option("--debug", "show where an error comes from")
    .helpOption("-h, --help", "show this help")
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => { write(text.replace(/^error: /, "dawnlm: ")); } });
}

/** A command from argv to its exit code. An error that tells of several problems gets a line for each. */
export async function runCommand(command: Command, argv: readonly string[], execute: (command: Command) => Promise<number>): Promise<number> {
  const debug = argv.includes("--debug");
  try {
    command.parse(normaliseArgv(argv, command), { from: "user" });
    return await execute(command);
  } catch (error) {
    if (!(error instanceof DawnlmError) || debug || !error.message.includes("\n")) return reportFailure(error, debug);
    process.stderr.write(error.message.split("\n").map((line) => `dawnlm: ${withoutControls(line)}\n`).join(""));
    return error.exitCode;
  }
}

/** The process as the command that `main` is. */
export async function startCommand(main: (argv: readonly string[]) => Promise<number>): Promise<void> {
  guardProcess();
  process.exitCode = await main(process.argv.slice(2));
}

/** A message for one line: the first break becomes a space, further ones "; ". Control characters cannot reach the terminal. */
export function oneLine(message: string): string {
  const [first = "", ...rest] = message.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return withoutControls([first, ...rest].reduce((text, line, i) => `${text}${i === 1 ? " " : "; "}${line}`));
}

/** Text of a model as a terminal may see it: what would move the cursor or recolour the screen becomes a visible sign. */
export function withoutControls(text: string): string {
  return text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (control) => {
    const code = control.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : "\u2421";
  });
}

/** Write to standard output, at the reader's pace. */
export async function print(text: string): Promise<void> {
  if (!process.stdout.write(process.stdout.isTTY ? withoutControls(text) : text)) await once(process.stdout, "drain");
}

/** The options of the library as the command line spells them; messages of the library name them. */
const FLAG_OF: Readonly<Record<string, string>> = {
  maxNewTokens: "--max-tokens", temperature: "--temperature", topP: "--top-p", topK: "--top-k", kvMemory: "--kv-memory",
  maxModelLen: "--max-model-len", maxSequences: "--batch-size", seed: "--seed", stop: "--stop", weights: "--weights", kv: "--kv", adapter: "--adapter", minP: "--min-p",
  repetitionPenalty: "--repetition-penalty", presencePenalty: "--presence-penalty", frequencyPenalty: "--frequency-penalty", logitBias: "--logit-bias",
  logprobs: "--logprobs",
};
const LIBRARY_NAMES = /\b(?:maxNewTokens|maxSequences|topP|topK|minP|kvMemory|maxModelLen|logitBias)\b|(?<=^|; )\w+(?= must be )/g;

function inFlags(message: string): string {
  return message.replace(/^(?:generate|LLM\.load): /, "").replace(LIBRARY_NAMES, (name) => FLAG_OF[name] ?? name);
}

/** The line to print for an error, and the exit code. */
export function describeFailure(error: unknown): { message: string; exitCode: number } {
  if (error instanceof DawnlmError) return { message: oneLine(inFlags(error.message)), exitCode: error.exitCode };
  const { message, code } = (error instanceof Error ? error : new Error(String(error))) as NodeJS.ErrnoException;
  const [firstLine = ""] = message.split("\n");
  if (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND" || code === "ERR_DLOPEN_FAILED") {
    const place = `${process.platform} ${process.arch}`;
    const problem = oneLine(`a package does not load on this machine (${place}): ${firstLine}; run npm ci`);
    return { message: problem, exitCode: /webgpu/.test(message) ? 4 : 1 };
  }
  return { message: oneLine(`internal error: ${firstLine || "no message"}; run with --debug to see where`), exitCode: 1 };
}

/** Print an error and return the exit code. A usage error that commander found is printed already. */
export function reportFailure(error: unknown, debug: boolean): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const { message, exitCode } = describeFailure(error);
  process.stderr.write(`dawnlm: ${message}\n`);
  if (debug) process.stderr.write(`${inspect(error)}\n`);
  return exitCode;
}

/** Signals leave with their code, a reader that went away (`| head`) ends the process quietly, a full disk is told, a warning of the library is a line. */
export function guardProcess(): void {
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", () => process.exit(EXIT_TERMINATED));
  process.on("uncaughtException", (error) => process.exit(reportFailure(error, process.argv.includes("--debug"))));
  process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
    if (code === "EPIPE") process.exit(0);
    process.stderr.write(`dawnlm: standard output cannot be written (${code})\n`);
    process.exit(1);
  });
  process.stderr.on("error", () => {}); // nobody is left to tell
  const others = process.listeners("warning");
  process.removeAllListeners("warning");
  process.on("warning", (warning) => {
    if ((warning as NodeJS.ErrnoException).code !== "DAWNLM_PREEMPTION") for (const listener of others) listener(warning);
    else process.stderr.write(`dawnlm: ${oneLine(inFlags(warning.message))}\n`);
  });
}

let running: AbortController | null = null;

/** What Ctrl-C does: stop what runs; leave when nothing runs or when it was asked to stop before. */
export function interrupt(): void {
  if (running === null || running.signal.aborted) process.exit(EXIT_INTERRUPTED);
  running.abort();
}

/** Run `body` so that the first Ctrl-C aborts its signal. */
export async function interruptible<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  running = new AbortController();
  try {
    return await body(running.signal);
  } finally {
    running = null;
  }
}

/** A progress bar on standard error: only on a terminal, only once the wait is longer than two seconds. */
export function progressBar(): { update: (progress: LoadProgress) => void; stop: () => void } {
  if (!process.stderr.isTTY || process.env["HF_HUB_DISABLE_PROGRESS_BARS"]) return { update: () => {}, stop: () => {} };
  const format = "{stage} [{bar}] {percentage}% {label}";
  const bar = new SingleBar({ format, stream: process.stderr, clearOnComplete: true, hideCursor: true });
  let latest: LoadProgress | null = null;
  let shown = false;
  const show = (): void => {
    if (latest === null) return;
    const { stage, label, loaded, total } = latest;
    const words = { stage, label: withoutControls(label) };
    if (!shown) bar.start(total, loaded, words);
    shown = true;
    bar.setTotal(total);
    bar.update(loaded, words);
  };
  const timer = setTimeout(show, PROGRESS_AFTER_MS);
  const started = performance.now();
  const stop = (): void => {
    clearTimeout(timer);
    if (shown) bar.stop();
    process.off("exit", stop);
  };
  process.on("exit", stop); // Ctrl-C in the middle must give the cursor back
  return {
    update: (progress) => {
      latest = progress;
      if (performance.now() - started > PROGRESS_AFTER_MS) show();
    },
    stop,
  };
}
