/** Results are read back as they were written; whatever is not a result is refused with what it looks like. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { protocolOf, sha256Of } from "../../bench/core/protocol.ts";
import { readResult } from "../../bench/core/result_file.ts";
import { UsageError } from "../../engine/errors.ts";
import { fakeResult } from "../support/results.ts";

const test = suite("result file");
const FOLDER = mkdtempSync(join(tmpdir(), "dawnlm-result-"));
test.after(() => { rmSync(FOLDER, { recursive: true, force: true }); });

const made = fakeResult(), protocol = protocolOf(made.config, made), RESULT = { ...made, protocol, protocolSha256: sha256Of(protocol) };

function written(name: string, content: unknown): string {
  const path = join(FOLDER, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content, null, 1));
  return path;
}

function refused(path: string, message: RegExp): void {
  assert.throws(() => readResult(path), (error: unknown) => {
    assert.instance(error, UsageError);
    assert.match((error as Error).message, message);
    assert.not.match((error as Error).message, /\n/);
    assert.ok((error as Error).message.startsWith(path.replace(/\/$/, "")), (error as Error).message);
    return true;
  });
}

test("by its file or by the folder of its run", () => {
  const file = written("run/result.json", RESULT);
  assert.equal(readResult(file), JSON.parse(JSON.stringify(RESULT)));
  assert.equal(readResult(join(FOLDER, "run")).protocolSha256, RESULT.protocolSha256);
});

test("an interrupted run that measured little is a result", () => {
  const { arms } = fakeResult({ iterations: 1 });
  readResult(written("little.json", { ...RESULT, status: "interrupted", warmUp: null, yardstick: null, corpus: null, arms: arms.map((arm) => ({ ...arm, metrics: {}, differences: {}, memory: null })) }));
});

test("what is not there, and folders without a result", () => {
  refused(join(FOLDER, "nowhere"), /no such file or folder; give the result\.json/);
  mkdirSync(join(FOLDER, "empty"));
  refused(join(FOLDER, "empty"), /holds no result\.json; give the folder of a run/);
  written("KVPress/runs/1/result.json", RESULT);
  written("KVPress/runs/2/result.json", RESULT);
  refused(join(FOLDER, "KVPress"), /give the folder of one run, such as \S*runs\/2, \S*runs\/1/);
});

test("a run that ended early left a journal", () => {
  const journal = written("early/journal.jsonl", '{"journalVersion":1,"status":"running","header":{}}\n{"step":"a","value":1}\n');
  refused(journal, /journal of a run that ended early .* --resume \S*early$/);
  refused(join(FOLDER, "early"), /ended early .* --resume/);
  refused(written("early/one/journal.jsonl", '{"journalVersion":1,"header":{}}\n'), /ended early/);
});

test("other files are named as what they look like", () => {
  refused(written("report.md", "# PagedAttention\n"), /is a Markdown report; give the result\.json/);
  refused(written("report.html", "<!doctype html><html></html>"), /is a page to look at; the result stands beside it/);
  refused(written("empty.json", " \n"), /is empty/);
  refused(written("list.json", "[1]"), /is JSON, but no result/);
  refused(written("text.json", "hello"), /is not JSON/);
  refused(written("other.json", { a: 1 }), /JSON, but no result of dawnlm/);
  refused(written("basic_report.json", { schemaVersion: 2, experiment: "PagedAttention", arms: [] }), /is a report of PagedAttention, not the result of its run/);
  refused(written("picture.vl.json", { $schema: "https://vega.github.io/schema/vega-lite/v5.json" }), /is the specification of a picture/);
});

test("a file that was cut short, is of another version, damaged or edited", () => {
  const text = JSON.stringify(RESULT);
  for (const share of [0.2, 0.5, 0.99]) refused(written("cut.json", text.slice(0, Math.floor(text.length * share))), /breaks off in the middle, after \d+ characters/);
  refused(written("cut.json", text.slice(0, text.indexOf("}") + 1)), /breaks off in the middle/);
  refused(written("cut.json", text.slice(0, -1)), /breaks off in the middle/);
  refused(written("old.json", { ...RESULT, schemaVersion: 2 }), /schema version 2, this program reads version 3/);
  const { arms: _, ...without } = RESULT;
  refused(written("without.json", without), /is no complete result: arms: /);
  refused(written("words.json", { ...RESULT, arms: [{ ...RESULT.arms[0]!, metrics: { ttft_ms: { unit: "ms", better: "lower", samples: [1, "2"], summary: null } } }] }), /arms\.0\.metrics\.ttft_ms\.samples\.1: /);
  refused(written("edited.json", { ...RESULT, protocol: { ...protocol, max_tokens: 1 } }), /does not match protocolSha256: .*edited by hand/);
  refused(written("twice.json", { ...RESULT, arms: [RESULT.arms[0]!, RESULT.arms[0]!] }), /two arms named "wikitext-2 none"/);
});

test.run();
