/** `dawnlm generate`: text that follows a prompt, to standard output as it is made; what it took, in one line, to standard error. */

import { UsageError } from "../../engine/errors.ts";
import type { LLM } from "../../index.ts";
import type { GenerateOptions, GenerateStats } from "../../models/options.ts";
import { EXIT_INTERRUPTED, interruptible, print } from "../../bench/core/cli.ts";
import { adapterInWords, checkedOptions, loadModel, type ModelFlags } from "../model_options.ts";

/** More than any context holds; a pipe that never ends is refused instead of filling the memory. */
const MAX_STDIN_BYTES = 32 * 2 ** 20;

export interface GenerateFlags extends ModelFlags { readonly json?: boolean; readonly logprobs?: number }

/** Returns the exit code. */
export async function generate(argument: string | undefined, flags: GenerateFlags): Promise<number> {
  if (flags.logprobs !== undefined && flags.json !== true) throw new UsageError("--logprobs has no effect without --json, which shows them");
  const options = await checkedOptions(flags);
  const prompt = argument === undefined || argument === "-" ? await promptFromStdin(argument) : argument;
  if (prompt === "") throw new UsageError("the prompt is empty: give the text to continue");
  const llm = await loadModel(flags.model, options.load);
  try {
    return await interruptible(async (signal) => {
      const generateOptions = { ...options.generate, signal };
      try {
        await (flags.json === true ? writeJson(llm, prompt, generateOptions) : writeText(llm, prompt, generateOptions));
        return 0;
      } catch (error) {
        if (!signal.aborted) throw error;
        if (flags.json !== true) await print("\n");
        return EXIT_INTERRUPTED;
      }
    });
  } finally {
    await llm.close();
  }
}

async function promptFromStdin(argument: string | undefined): Promise<string> {
  if (argument === undefined && process.stdin.isTTY) throw new UsageError("no prompt: give it in quotes, or pipe it in");
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_STDIN_BYTES) throw new UsageError(`the prompt on standard input is longer than ${MAX_STDIN_BYTES} bytes`);
    chunks.push(chunk);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)).replace(/\r?\n$/, "");
  } catch {
    throw new UsageError("the prompt on standard input is not UTF-8 text");
  }
}

async function writeText(llm: LLM, prompt: string, options: GenerateOptions): Promise<void> {
  const stream = llm.stream(prompt, options);
  let next = await stream.next();
  for (; next.done !== true; next = await stream.next()) await print(next.value.text);
  const { ids, promptTokens, timings: { ttft, tpot }, stats } = next.value;
  await print("\n");
  const speed = tpot === null ? "" : `, then ${(1000 / tpot).toFixed(1)} tokens/s`;
  const firstText = ids.length === 0 ? "" : `, the first after ${ttft.toFixed(0)} ms${speed}`;
  const random = llm.source.random ? "; random weights: the text means nothing" : "";
  process.stderr.write(`${ids.length} tokens after a prompt of ${promptTokens}${firstText}; ${adapterInWords(llm)}${random}${techniquesInWords(stats)}\n`);
}

async function writeJson(llm: LLM, prompt: string, options: GenerateOptions): Promise<void> {
  const { text, ids, promptTokens, finishReason, logprobs, timings, stats } = await llm.generate(prompt, options);
  const { adapter, kernelFamily } = llm.environment;
  await print(`${JSON.stringify({
    text, ids, promptTokens, finishReason, logprobs, timings, stats,
    memory: llm.memory(), source: llm.source, adapter, kernelFamily, loadTimings: llm.loadTimings,
  })}\n`);
}

/** What a press evicted and a draft got accepted, a line each. */
function techniquesInWords({ press, speculation }: GenerateStats): string {
  const lines: string[] = [];
  if (press !== undefined) {
    const kept = press.kept.flat(), range = `${Math.min(...kept)}${Math.max(...kept) > Math.min(...kept) ? ` to ${Math.max(...kept)}` : ""}`;
    lines.push(press.evicted === 0 ? `${press.name}: nothing was evicted`
      : `${press.name}: acted ${press.events === 1 ? "once" : `${press.events} times`}, at last keeping ${range} of ${press.seen} tokens in each head; ${(press.freedBytes / 1024).toFixed(0)} KiB freed`);
  }
  if (speculation !== undefined) {
    const { draft, rounds, drafted, accepted, tokens } = speculation;
    lines.push(rounds === 0 ? `${draft}: nothing was drafted` : `${draft}: ${accepted} of ${drafted} drafted tokens accepted, ${(tokens / rounds).toFixed(2)} tokens a round`);
  }
  return lines.map((line) => `\n${line}`).join("");
}
