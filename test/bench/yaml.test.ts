/**
 * What the YAML reader refuses, word for word: line, column, what is wrong, and the line itself. The library alone would accept some of
 * these, and take minutes for others.
 */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readYamlFile } from "../../bench/core/yaml_file.ts";
import { UsageError } from "../../engine/errors.ts";

const folder = mkdtempSync(join(tmpdir(), "dawnlm-yaml-"));
const path = join(folder, "x.yaml");
const test = suite("yaml");
test.after(() => { rmSync(folder, { recursive: true }); });

function read(text: string | Uint8Array): Readonly<Record<string, unknown>> {
  writeFileSync(path, text);
  return readYamlFile(path).values;
}

function refused(text: string | Uint8Array): string[] {
  try {
    read(text);
  } catch (error) {
    assert.instance(error, UsageError, String((error as Error).stack));
    return (error as Error).message.replaceAll(`${folder}/`, "").split("\n");
  }
  return assert.unreachable("it was accepted") as never;
}

const LEVELS = ["a", "b", "c", "d", "e"];
const nine = (alias: string | undefined): string => `[${Array(9).fill(alias === undefined ? "x" : `*${alias}`).join(", ")}]`;
const BOMB = LEVELS.map((name, i) => `${name}: &${name} ${nine(LEVELS[i - 1])}`).join("\n");
const MERGE_BOMB = LEVELS.map((name, i) => `${name}: &${name} {${i === 0 ? "x: 1" : `<<: ${nine(LEVELS[i - 1])}`}}`).join("\n");
const EXCESSIVE = "Excessive alias count indicates a resource exhaustion attack";

const REFUSED: readonly (readonly [name: string, text: string | Uint8Array, firstLine: string])[] = [
  ["Y1 tab indent", "a:\n\t- 1\n", "x.yaml:2:1  Tabs are not allowed as indentation: - 1"],
  ["Y2 unclosed list", "model: [1, 2\nseed: 3\n", "x.yaml:2:1  Flow sequence in block collection must be sufficiently indented and end with a ]: seed: 3"],
  ["Y3 duplicate key", "seed: 1\nseed: 2\n", "x.yaml:2:1  Map keys must be unique: seed: 2"],
  ["Y3 duplicate key in quotes", 'seed: 1\n"seed": 2\n', 'x.yaml:2:1  Map keys must be unique: "seed": 2'],
  ["Y3 duplicate key further down", "a:\n  b: 1\n  b: 2\n", "x.yaml:3:3  Map keys must be unique: b: 2"],
  ["Y3 the same key by an alias", "&k seed: 1\n*k : 2\n", "x.yaml:2:1  A key must be a plain word: *k : 2"],
  ["Y4 alias bomb", BOMB, `x.yaml:2:8  ${EXCESSIVE}`],
  ["Y4 merge bomb", MERGE_BOMB, `x.yaml:2:8  ${EXCESSIVE}`],
  ["Y4 a map that merges itself", "&a\nseed: 1\n<<: *a\n", `x.yaml:3:1  ${EXCESSIVE}`],
  ["Y5 tag", 'a: !!js/function "x"\n', 'x.yaml:1:4  Unresolved tag: tag:yaml.org,2002:js/function: a: !!js/function "x"'],
  ["Y7 YAML 1.1, which reads no as false", "%YAML 1.1\n---\nsave_results: no\nseed: 012\n",
    "x.yaml:1:1  YAML 1.1 is not read, only 1.2; take this line out: %YAML 1.1"],
  ["Y8 two documents", "a: 1\n---\nb: 2\n", "x.yaml:2:1  Source contains multiple documents; please use YAML.parseAllDocuments(): ---"],
  ["Y9 empty", "", "x.yaml:1:1  expected a mapping of keys and values, found nothing"],
  ["Y9 comment", "# a\n", "x.yaml:1:1  expected a mapping of keys and values, found nothing"],
  ["Y9 word", "hello\n", "x.yaml:1:1  expected a mapping of keys and values, found a single value"],
  ["Y9 list", "- a\n", "x.yaml:1:1  expected a mapping of keys and values, found a list"],
  ["Y10 a merge of something else than a map", "a: 1\n<<: 5\n", "x.yaml:2:1  Merge sources must be maps or map aliases"],
  ["Y11 alias without anchor", "a: &x 1\nb: *x\nc: *nowhere\n", "x.yaml:3:4  Unresolved alias (the anchor must be set before the alias): nowhere"],
  ["Y13 nested lists", `a: ${"[".repeat(5000)}`, "x.yaml: is nested too deeply for a config, which is one flat mapping"],
  ["Y13 nested maps", `a: ${"{".repeat(5000)}`, "x.yaml: is nested too deeply for a config, which is one flat mapping"],
  ["Y14 bad UTF-8", Buffer.from([0x61, 0x3a, 0x20, 0xff, 0x0a]), "x.yaml: is not UTF-8 text"],
  ["Y14 UTF-16", Buffer.from("\ufeffa: 1\n", "utf16le"), "x.yaml: is not UTF-8 text"],
  ["Y14 control character in a key", "\u001b[31mred: 1\n", "x.yaml:1:1  A key must be a plain word: \u001b[31mred: 1"],
  ["Y14 line break in a key", '"a\\nb": 1\n', 'x.yaml:1:1  A key must be a plain word: "a\\nb": 1'],
  ["a list as a key", "a: 1\n? [b]\n: 2\n", "x.yaml:2:3  A key must be a plain word: ? [b]"],
  ["no key", "a: 1\n: 2\n", "x.yaml:2:1  A key must be a plain word: : 2"],
];

for (const [name, text, firstLine] of REFUSED) {
  test(name, () => {
    const started = performance.now();
    assert.is(refused(text)[0], firstLine);
    if (name.startsWith("Y4")) assert.ok(performance.now() - started < 100, "within 100 ms");
  });
}

test("a byte-order mark, CRLF, a merge and %YAML 1.2 are fine; a file's own keys win over merged ones", () => {
  assert.equal(read("\ufeffa: 1\r\nb: no\r\n"), { a: 1, b: "no" });
  assert.equal(read("base: &b {seed: 1, top_p: 0.5}\n<<: *b\nseed: 9\n"), { base: { seed: 1, top_p: 0.5 }, seed: 9, top_p: 0.5 });
  assert.equal(read("%YAML 1.2\n---\na: 012\n"), { a: 12 });
});

test("many mistakes: ten are shown, the others counted, and no message is longer than a few lines", () => {
  const lines = refused(Array.from({ length: 30 }, (_, i) => `k${i % 15}: 1`).join("\n"));
  assert.is(lines.length, 11);
  assert.is(lines[10], "… and 5 more");
  for (const line of refused(`a: ${"!".repeat(100_000)}`)) assert.ok(line.length < 300, `${line.length} characters`);
});

test("tens of thousands of keys do not keep anybody waiting", () => {
  const started = performance.now();
  assert.equal(refused(Array.from({ length: 60_000 }, (_, i) => `k${i}: 1`).join("\n")), ["x.yaml: has 60000 keys; a config has at most 200"]);
  assert.ok(performance.now() - started < 10_000); // comparing all pairs took two minutes
});

test("positions and the text as it was written", () => {
  writeFileSync(path, "a: 1\n  \nlong_key:   9007199254740993\n");
  const file = readYamlFile(path);
  assert.equal([file.position("long_key", "key"), file.position("long_key", "value")], [{ line: 3, col: 1 }, { line: 3, col: 13 }]);
  assert.is(file.position("none", "key"), null);
  assert.equal([file.written("long_key"), file.written("none")], ["9007199254740993", null]);
});

test.run();
