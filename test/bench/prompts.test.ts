/** Where prompts come from: cut by seed from real text, given, or read from a file; whatever is wrong with a file is said. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { choosePrompts, excerpt } from "../../bench/core/prompts.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { UsageError } from "../../engine/errors.ts";

const folder = mkdtempSync(join(tmpdir(), "dawnlm-prompts-"));
const test = suite("prompts");
test.after(() => { rmSync(folder, { recursive: true }); });

const choose = (config: Partial<ExperimentConfig>) => choosePrompts({ ...DEFAULTS, experiment_name: "x", ...config } as ExperimentConfig);
const file = (text: string | Uint8Array): string => { const path = join(folder, "p.txt"); writeFileSync(path, text); return path; };

test("cuts begin at sentences, have 12 to 120 words and various lengths, and repeat with the seed", () => {
  const { texts, origin, sha256 } = choose({ num_prompts: 40, seed: 3 });
  assert.is(texts.length, 40);
  const lengths = texts.map((text) => text.split(" ").length);
  for (const text of texts) assert.match(text, /^["“]?[A-Z][a-z]/);
  assert.ok(lengths.every((words) => words >= 12 && words <= 120));
  assert.ok(new Set(lengths).size > 20);
  assert.is(new Set(texts).size, 40);
  assert.equal(origin, { kind: "cut", seed: 3 });
  assert.equal(choose({ num_prompts: 40, seed: 3 }), { texts, origin, sha256 });
  assert.is.not(choose({ num_prompts: 40, seed: 4 }).sha256, sha256);
});

test("fewer prompts of the same seed are the first of more", () => {
  assert.equal(choose({ num_prompts: 3 }).texts, choose({ num_prompts: 9 }).texts.slice(0, 3));
});

test("another set of the same seed has other prompts, and no set has those of its neighbour", () => {
  const sets = [0, 1, 2].map((set) => choosePrompts({ ...DEFAULTS, experiment_name: "x", num_prompts: 6 } as ExperimentConfig, set).texts);
  assert.is(new Set(sets.flat()).size, 18);
  assert.equal(sets[1], choose({ num_prompts: 12 }).texts.slice(6));
});

test("an excerpt has as many words as are asked for, also past the end of the text, and begins at the beginning without a generator", () => {
  assert.equal([excerpt(3).split(" ").length, excerpt(200_000).split(" ").length], [3, 200_000]);
  assert.is(excerpt(5), excerpt(9).split(" ").slice(0, 5).join(" "));
  assert.is(excerpt(5, () => 0.5), excerpt(9, () => 0.5).split(" ").slice(0, 5).join(" "));
  assert.is.not(excerpt(5, () => 0.5), excerpt(5));
});

test("prompts that are given are taken as they are", () => {
  assert.equal(choose({ prompts: [" a ", "b"], num_prompts: 2 }).texts, [" a ", "b"]);
});

test("a file has one prompt per line; blank lines, CRLF and a byte-order mark do not count", () => {
  assert.equal(choose({ prompts_file: file("\ufeffone\r\n\r\ntwo\r\nthree"), num_prompts: 2 }).texts, ["one", "two"]);
});

test("a file that is missing, a folder, not text, or too short", () => {
  const refused = (prompts_file: string, message: RegExp): void => {
    assert.throws(() => choose({ prompts_file, num_prompts: 2 }), (error: Error) => error instanceof UsageError && message.test(error.message));
  };
  refused(join(folder, "none"), /no such file/);
  refused(folder, /is a folder/);
  refused(file(Buffer.from([0x61, 0xff, 0x0a])), /is not UTF-8 text/);
  refused(file("only one\n"), /has 1 prompts? \(one per line\), but num_prompts is 2/);
});

test.run();
