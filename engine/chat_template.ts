/**
 * A model's chat template (Jinja, from its tokenizer files) turned into a prompt. Templates come with downloaded models, so they are run
 * as untrusted programs: no host objects in scope, a capped `range`, and an interpreter that counts work and time at every node, because
 * nested loops or doubled lists would otherwise take the whole process down. Message text is data: shieldMessages marks the control
 * tokens that users typed, so that the tokenizer encodes them as plain text while those written by the template keep their ids.
 */

import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { ModelFileError, UsageError } from "./errors.ts";
import { maxTextLength, reasonOf } from "./text.ts";

export const chatRoles = ["system", "user", "assistant"] as const;

/** One turn of a conversation, as chat templates take it. */
export interface ChatMessage {
  readonly role: (typeof chatRoles)[number];
  readonly content: string;
}

export interface RenderOptions {
  bosToken?: string | undefined;
  eosToken?: string | undefined;
  /** End with the opening of the assistant's turn. Default true. */
  addGenerationPrompt?: boolean | undefined;
  /** Where the template came from, for messages. Default "chat template". */
  source?: string;
}

const maxMilliseconds = 1500;
const maxRange = 10_000;
/** Characters and (weighted) list elements a template may build on its way; bounds the memory of one rendering. */
const maxWork = 2 ** 27;
const listElementWork = 16;

/** A limit of ours, as opposed to an error of the template itself. */
class TemplateLimit extends Error {}
/** `raise_exception` of the template: it refuses these messages. */
class TemplateRefusal extends Error {}

/** The part of the interpreter that we use; the package's own declarations do not resolve under nodenext. */
interface Machine {
  evaluate(node: { readonly type: string } | undefined, scope: unknown): { readonly value: unknown };
  run(program: unknown): { readonly value: unknown };
}

const readsOnly = new Set(["Identifier", "MemberExpression", "StringLiteral"]);

/** An interpreter that counts time and work at every node it evaluates. */
function meteredInterpreter(scope: unknown): Machine {
  const machine: Machine = new Interpreter(scope);
  const evaluate = machine.evaluate.bind(machine);
  const deadline = performance.now() + maxMilliseconds;
  let work = 0;
  machine.evaluate = (node, inner) => {
    if (performance.now() > deadline) throw new TemplateLimit(`runs longer than ${maxMilliseconds} ms`);
    const result = evaluate(node, inner);
    if (node !== undefined && !readsOnly.has(node.type)) {
      if (typeof result.value === "string") work += result.value.length;
      else if (Array.isArray(result.value)) work += listElementWork * result.value.length;
      if (work > maxWork) throw new TemplateLimit("builds more text and lists than a prompt can need");
    }
    return result;
  };
  return machine;
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
  const scope = new Environment();
  for (const [name, value] of [["true", true], ["false", false], ["none", null]] as const) {
    scope.set(name, value);
    scope.set(name[0]!.toUpperCase() + name.slice(1), value);
  }
  scope.set("range", range);
  scope.set("raise_exception", (message: unknown) => { throw new TemplateRefusal(String(message)); });
  scope.set("messages", messages.map(({ role, content }) => ({ role, content })));
  scope.set("bos_token", options.bosToken ?? "");
  scope.set("eos_token", options.eosToken ?? "");
  scope.set("add_generation_prompt", options.addGenerationPrompt ?? true);
  let text: string;
  try {
    text = String(meteredInterpreter(scope).run(new Template(template).parsed).value);
  } catch (error) {
    if (error instanceof TemplateRefusal) throw new UsageError(`the model's chat template refuses these messages: ${reasonOf(error)}`);
    const kind = error instanceof TemplateLimit ? "" : "not a template we can run: ";
    throw new ModelFileError(`${source}: ${kind}${reasonOf(error)}`, { cause: error });
  }
  if (text.length > maxTextLength) {
    throw new ModelFileError(`${source}: makes a prompt of ${text.length} characters; at most ${maxTextLength} are allowed`);
  }
  return text;
}

function checkMessages(messages: readonly ChatMessage[]): void {
  if (!Array.isArray(messages) || messages.length === 0) throw new UsageError("a chat needs at least one message");
  messages.forEach((message, i) => {
    if (!chatRoles.includes(message?.role)) {
      throw new UsageError(`messages[${i}].role is ${JSON.stringify(message?.role)}; it must be one of ${chatRoles.join(", ")}`);
    }
    const found = typeof message.content;
    if (found !== "string") throw new UsageError(`messages[${i}].content must be a string, found ${found}`);
  });
}

/** A token that structures prompts. `special` ones never are text; the others, like `<think>`, a model may say. */
export interface ControlToken {
  readonly content: string;
  readonly id: number;
  readonly special: boolean;
}

/**
 * Messages in which every control token is broken by a mark (a noncharacter that occurs nowhere else), so that after rendering unbroken
 * ones are the template's own. In the assistant's turns only special tokens are broken: templates look for `</think>` and the like there.
 */
export function shieldMessages(
  messages: readonly ChatMessage[], tokens: readonly ControlToken[],
): { messages: ChatMessage[]; mark: string } {
  checkMessages(messages);
  const mark = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i))
    .find((candidate) => messages.every(({ content }) => !content.includes(candidate)));
  if (mark === undefined) throw new UsageError("the messages use all 32 noncharacters U+FDD0 to U+FDEF; remove one of them");
  const shield = (text: string, kept: readonly ControlToken[]): string => {
    const pattern = tokenPattern(kept, mark);
    // Until nothing changes: breaking one token can leave another whole that overlapped it.
    for (let before = ""; text !== before;) {
      before = text;
      text = text.replace(pattern, (token) => insertMark(token, mark));
    }
    return text;
  };
  const special = tokens.filter((token) => token.special);
  const shielded = messages.map(({ role, content }) => ({ role, content: shield(content, role === "assistant" ? special : tokens) }));
  return { messages: shielded, mark };
}

/** After the first character, so that the ends of the text stay what a template may trim or compare. */
function insertMark(token: string, mark: string): string {
  const first = String.fromCodePoint(token.codePointAt(0)!);
  return first + mark + token.slice(first.length);
}

/** Leftmost, then longest of the tokens. A token of a single character counts as broken when the mark follows it. */
function tokenPattern(tokens: readonly ControlToken[], mark: string): RegExp {
  const byLength = tokens.map(({ content }) => content).sort((a, b) => b.length - a.length);
  const escaped = byLength.map((content) => content.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  return new RegExp(`(?:${escaped.join("|") || "(?!)"})(?!${mark})`, "gu");
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
  for (const match of text.matchAll(tokenPattern(tokens, mark))) {
    addText(match.index);
    pieces.push(ids.get(match[0])!);
    from = match.index + match[0].length;
  }
  addText(text.length);
  return pieces;
}
