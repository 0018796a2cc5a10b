/**
 * A model's chat template (Jinja, from its tokenizer files) turned into a prompt. Templates come with downloaded models, so they are run
 * as untrusted programs: no host objects in scope, a capped `range`, and an interpreter that counts work and time at every node, because
 * nested loops or doubled lists would otherwise take the whole process down. Message text is data: shieldMessages marks the control
 * tokens that users typed, so that the tokenizer encodes them as plain text while those written by the template keep their ids.
 */

import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { ModelFileError, UsageError } from "./errors.ts";

export const chatRoles = ["system", "user", "assistant"] as const;

export interface ChatMessage {
  readonly role: (typeof chatRoles)[number];
  readonly content: string;
}

export interface RenderOptions {
  bosToken?: string | undefined;
  eosToken?: string | undefined;
  /** End with the opening of the assistant's turn. Default true. */
  addGenerationPrompt?: boolean;
  /** Where the template came from, for messages. Default "chat template". */
  source?: string;
}

/** Longest text a template may produce, in UTF-16 units. */
export const maxRenderedLength = 2 ** 22;
const maxMilliseconds = 1500;
const maxRange = 10_000;
/** Characters and (weighted) list elements a template may build on its way; bounds the memory of one rendering. */
const maxWork = 2 ** 27;
const listElementWork = 16;

/** A limit of ours, as opposed to an error of the template itself. */
class TemplateLimit extends Error {}
/** `raise_exception` of the template: it refuses these messages. */
class TemplateRefusal extends Error {}

type Evaluate = Interpreter["evaluate"];
const readsOnly = new Set(["Identifier", "MemberExpression", "StringLiteral"]);

class MeteredInterpreter extends Interpreter {
  readonly #deadline = performance.now() + maxMilliseconds;
  #work = 0;

  override evaluate(...[statement, environment]: Parameters<Evaluate>): ReturnType<Evaluate> {
    if (performance.now() > this.#deadline) throw new TemplateLimit(`runs longer than ${maxMilliseconds} ms`);
    const value = super.evaluate(statement, environment);
    if (statement !== undefined && !readsOnly.has(statement.type)) {
      const held: unknown = value.value;
      if (typeof held === "string") this.#work += held.length;
      else if (Array.isArray(held)) this.#work += listElementWork * held.length;
      if (this.#work > maxWork) throw new TemplateLimit("builds more text and lists than a prompt can need");
    }
    return value;
  }
}

function range(...args: unknown[]): number[] {
  const numbers = args.filter((arg) => typeof arg === "number");
  const [start, stop, step] = numbers.length === 1 ? [0, numbers[0]!, 1] : [numbers[0] ?? 0, numbers[1] ?? 0, numbers[2] ?? 1];
  if (step === 0) throw new Error("range() step must not be zero");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= maxRange)) throw new TemplateLimit(`asks for a range of ${length} numbers; at most ${maxRange} are given`);
  return Array.from({ length }, (_, i) => start + i * step);
}

/**
 * The prompt text of a conversation. Throws UsageError for messages that are malformed or that the template refuses, ModelFileError for
 * a template that is broken or exceeds its limits (1.5 s, 4 Mi characters, ranges of 10,000).
 */
export function renderChat(template: string, messages: readonly ChatMessage[], options: RenderOptions = {}): string {
  const source = options.source ?? "chat template";
  checkMessages(messages);
  const environment = new Environment();
  for (const [name, value] of [["true", true], ["false", false], ["none", null], ["True", true], ["False", false], ["None", null]] as const) {
    environment.set(name, value);
  }
  environment.set("range", range);
  environment.set("raise_exception", (message: unknown) => { throw new TemplateRefusal(String(message)); });
  environment.set("messages", messages.map(({ role, content }) => ({ role, content })));
  environment.set("bos_token", options.bosToken ?? "");
  environment.set("eos_token", options.eosToken ?? "");
  environment.set("add_generation_prompt", options.addGenerationPrompt ?? true);
  let text: string;
  try {
    text = String(new MeteredInterpreter(environment).run(new Template(template).parsed).value);
  } catch (error) {
    if (error instanceof TemplateRefusal) throw new UsageError(`the model's chat template refuses these messages: ${error.message}`);
    const reason = error instanceof Error ? error.message : String(error);
    throw new ModelFileError(`${source}: ${error instanceof TemplateLimit ? reason : `not a template we can run: ${reason}`}`, { cause: error });
  }
  if (text.length > maxRenderedLength) {
    throw new ModelFileError(`${source}: makes a prompt of ${text.length} characters; at most ${maxRenderedLength} are allowed`);
  }
  return text;
}

function checkMessages(messages: readonly ChatMessage[]): void {
  if (!Array.isArray(messages) || messages.length === 0) throw new UsageError("a chat needs at least one message");
  messages.forEach((message, i) => {
    if (!chatRoles.includes(message?.role)) {
      throw new UsageError(`messages[${i}].role is ${JSON.stringify(message?.role)}; it must be ${chatRoles.join(", ")}`);
    }
    if (typeof message.content !== "string") throw new UsageError(`messages[${i}].content must be a string, found ${typeof message.content}`);
  });
}

/** A token that the tokenizer would cut out of running text. `special` ones structure the prompt; the others, like `<think>`, a model may say. */
export interface ControlToken {
  readonly content: string;
  readonly id: number;
  readonly special: boolean;
}

/**
 * Messages in which every control token is broken by a mark (a noncharacter that occurs nowhere else), so that after rendering unbroken
 * ones are the template's own. In the assistant's turns only special tokens are broken: templates look for `</think>` and the like there.
 */
export function shieldMessages(messages: readonly ChatMessage[], tokens: readonly ControlToken[]): { messages: ChatMessage[]; mark: string } {
  checkMessages(messages);
  const mark = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i))
    .find((candidate) => messages.every(({ content }) => !content.includes(candidate)));
  if (mark === undefined) throw new UsageError("the messages use all 32 noncharacters U+FDD0 to U+FDEF; remove one of them");
  const breaker = (kept: readonly ControlToken[]) => {
    const pattern = tokenPattern(kept);
    return (text: string) => pattern === undefined ? text : text.replace(pattern, (token) => insertMark(token, mark));
  };
  const breakAll = breaker(tokens);
  const breakSpecial = breaker(tokens.filter(({ special }) => special));
  return {
    mark,
    messages: messages.map(({ role, content }) => ({ role, content: role === "assistant" ? breakSpecial(content) : breakAll(content) })),
  };
}

/** After the first character; a token of a single character is followed by the mark, which splitControl respects. */
function insertMark(token: string, mark: string): string {
  const first = String.fromCodePoint(token.codePointAt(0)!);
  return first + mark + token.slice(first.length);
}

/** Leftmost, then longest of the tokens; undefined when there are none. */
function tokenPattern(tokens: readonly ControlToken[]): RegExp | undefined {
  if (tokens.length === 0) return undefined;
  const byLength = tokens.map(({ content }) => content).sort((a, b) => b.length - a.length);
  return new RegExp(byLength.map((content) => RegExp.escape(content)).join("|"), "gu");
}

/** Rendered text as runs of plain text (marks removed) and the ids of the template's own control tokens between them. */
export function splitControl(text: string, tokens: readonly ControlToken[], mark: string): (string | number)[] {
  const ids = new Map(tokens.map(({ content, id }) => [content, id]));
  const pieces: (string | number)[] = [];
  let from = 0;
  const addText = (to: number) => {
    const plain = text.slice(from, to).replaceAll(mark, "");
    if (plain !== "") pieces.push(plain);
  };
  for (const match of text.matchAll(tokenPattern(tokens) ?? /(?!)/gu)) {
    const end = match.index + match[0].length;
    if (text[end] === mark) continue;
    addText(match.index);
    pieces.push(ids.get(match[0])!);
    from = end;
  }
  addText(text.length);
  return pieces;
}
