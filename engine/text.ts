/**
 * Text that comes from outside: how much of it a tokenizer takes at once, and how the reasons of other libraries' errors, which may quote
 * whole pieces of a file, are put on one line.
 */

import { UsageError } from "./errors.ts";

/** UTF-16 units; about a million tokens, 4 s of tokenizing. Prompts that a model can take are far below it. */
export const maxTextLength = 2 ** 22;

/** The text with lone surrogates replaced by U+FFFD. Throws UsageError when it is longer than maxTextLength. */
export function checkText(text: string): string {
  if (text.length > maxTextLength) {
    throw new UsageError(`the text has ${text.length} characters; at most ${maxTextLength} are taken at once: `
      + "shorten it or encode it in parts");
  }
  return text.toWellFormed();
}

/** What an error says, on one line of at most 300 characters without control characters. */
export function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/[\s\u0000-\u001f\u007f-\u009f]+/g, " ").slice(0, 300).trim();
}
