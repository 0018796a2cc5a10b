/** `dawnlm chat`: a conversation through the model's chat template, line by line, from a terminal or a pipe. */

import { createInterface } from "node:readline";
import type { ChatMessage } from "../../engine/chat_template.ts";
import { ContextLengthError, UsageError } from "../../engine/errors.ts";
import type { LLM } from "../../index.ts";
import type { GenerateOptions } from "../../models/options.ts";
import { describeFailure, interrupt, interruptible, print } from "../../bench/core/cli.ts";
import { adapterInWords, checkedOptions, loadModel, type ModelFlags } from "../model_options.ts";

const COMMANDS = ["/reset", "/exit"];
/** Answers are longer than continuations; whoever wants another length gives --max-tokens. */
const DEFAULT_ANSWER_TOKENS = 1024;

/** Returns the exit code. */
export async function chat(flags: ModelFlags): Promise<number> {
  const options = await checkedOptions({ maxTokens: DEFAULT_ANSWER_TOKENS, ...flags });
  const llm = await loadModel(flags.model, options.load);
  try {
    await checkTemplate(llm, flags.model);
    await converse(llm, options.generate);
    return 0;
  } finally {
    await llm.close();
  }
}

async function checkTemplate(llm: LLM, model: string): Promise<void> {
  try {
    await llm.tokenizer.encodeChat([{ role: "user", content: "?" }]);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`${error.message}: dawnlm generate --model ${model} "…"`, { cause: error });
  }
}

async function converse(llm: LLM, options: GenerateOptions): Promise<void> {
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const lines = createInterface({ input: process.stdin, ...(terminal && { output: process.stdout }), terminal, prompt: "> " });
  lines.on("SIGINT", interrupt); // in a terminal readline takes Ctrl-C before the process sees a signal
  const ask = (): void => { if (terminal) lines.prompt(); };
  if (terminal) note(`${llm.source.id} ${adapterInWords(llm)}. /reset forgets the conversation, /exit leaves, Ctrl-C stops an answer.`);
  let messages: ChatMessage[] = [];
  ask();
  for await (const line of lines) {
    const text = line.trim();
    if (text === "/exit") break;
    if (text === "/reset") messages = [];
    else if (/^\/\w+$/.test(text)) note(`dawnlm: unknown command ${text}; there are ${COMMANDS.join(" and ")}`);
    else if (text !== "") messages = await exchange(llm, [...messages, { role: "user", content: line }], options);
    ask();
  }
  lines.close();
}

/** The conversation with the answer; without the question when it could not be answered. */
async function exchange(llm: LLM, messages: ChatMessage[], options: GenerateOptions): Promise<ChatMessage[]> {
  let answer = "";
  try {
    const ids = await llm.tokenizer.encodeChat(messages, { addGenerationPrompt: true });
    await interruptible(async (signal) => {
      try {
        for await (const { text } of llm.stream(ids, { ...options, signal })) {
          answer += text;
          await print(text);
        }
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    });
  } catch (error) {
    if (!(error instanceof ContextLengthError)) throw error;
    note(`dawnlm: ${describeFailure(error).message}; /reset forgets the conversation`);
    return messages.slice(0, -1);
  }
  await print("\n");
  return answer === "" ? messages.slice(0, -1) : [...messages, { role: "assistant", content: answer }];
}

function note(text: string): void {
  process.stderr.write(`${text}\n`);
}
