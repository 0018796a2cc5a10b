/** A result run again: the same work, whatever became of the files that its config came from, and compared with the first. */

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { replayed } from "../../bench/core/replay.ts";
import { main } from "../../bench/core/run.ts";
import { readResult } from "../../bench/core/result_file.ts";
import { fakeCombosLoad } from "../support/fake_combos.ts";
import { fakeEngine } from "../support/fake_engine.ts";
import { fakeResult } from "../support/results.ts";

const test = suite("replay");
const HERE = process.cwd();
let folder: string;
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), "dawnlm-replay-"));
  process.chdir(folder);
});
test.after.each(() => {
  process.chdir(HERE);
  rmSync(folder, { recursive: true, force: true });
});

/** The command in this process, in a folder of the test. */
async function bench(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: "", stderr: "" }, own = (["stdout", "stderr"] as const).map((name) => [name, process[name].write] as const);
  for (const [name] of own) process[name].write = ((text: string) => { written[name] += text; return true; }) as typeof process.stdout.write;
  try {
    return { code: await main(args, fakeEngine(fakeCombosLoad())), ...written };
  } finally {
    for (const [name, write] of own) process[name].write = write;
  }
}

const COMMON = `
experiment_name: x
batch_level: small
max_tokens: 6
temperature: 0
top_p: 1
warmup_iterations: 0
test_iterations: 5
num_prompts: 3
batch_size: 3
max_model_len: 96
`;
const PAGED = `${COMMON}technique: PagedAttention\nprompts_file: prompts.txt\n`;
const COMBOS = `${COMMON}
technique: combos
arms: {none: {layout: contiguous-max}, paging: {}, snapkv: {press: snapkv}}
prompt_tokens: 32
continuation: 8
perplexity_windows: 2
`;
const runs = (technique: string, at = "results"): string[] => readdirSync(join(at, technique, "runs")).sort()
  .map((name) => join(at, technique, "runs", name));

test("a replay does the same work: the same protocol and its hash, the same orders; and says what differs between the two", async () => {
  writeFileSync("x.yaml", COMBOS);
  assert.is((await bench("--config", "x.yaml")).code, 0);
  const [first] = runs("combos") as [string];
  writeFileSync("x.yaml", "gone: true");
  const again = await bench("--replay", first);
  assert.is(again.code, 0, again.stderr);
  assert.match(again.stdout, /no measurable difference/i);
  const all = runs("combos"), [one, two] = all.map(readResult);
  assert.is(all.length, 2);
  assert.equal([two!.protocol, two!.protocolSha256, two!.order, two!.prompts],
    [one!.protocol, one!.protocolSha256, one!.order, one!.prompts]);
  assert.is(two!.configFile, first);
  assert.is((await bench("--replay", join(first, "result.json"), "--output-dir", "elsewhere", "--json")).code, 0);
  assert.equal([runs("combos").length, readResult(runs("combos", "elsewhere")[0]!).protocolSha256], [2, one!.protocolSha256]);
});

test("prompts that came from a file come from the result: the file may be gone, or hold others by now", async () => {
  writeFileSync("prompts.txt", "one two three\nfour five six seven\neight nine ten eleven twelve\nthirteen\n");
  writeFileSync("x.yaml", PAGED);
  const begun = await bench("--config", "x.yaml");
  assert.is(begun.code, 0, begun.stderr);
  const [first] = runs("PagedAttention") as [string], { prompts, protocolSha256, config } = readResult(first);
  assert.equal([prompts.texts.length, config.prompts_file], [3, "prompts.txt"]);
  for (const change of [() => { writeFileSync("prompts.txt", "other\nprompts\nthan\nbefore\n"); }, () => { rmSync("prompts.txt"); }]) {
    change();
    const again = await bench("--replay", first, "--output-dir", "again");
    assert.is(again.code, 0, again.stderr);
    const result = readResult(runs("PagedAttention", "again").at(-1)!);
    assert.equal([result.protocolSha256, result.prompts.texts, result.prompts.sha256, result.config.prompts_file],
      [protocolSha256, prompts.texts, prompts.sha256, undefined]);
    assert.equal([result.configOrigins["prompts"], result.configOrigins["prompts_file"]], ["result", undefined]);
  }
});

test("a replay takes nothing else from flags, and reads nothing but results", async () => {
  writeFileSync("x.yaml", COMBOS);
  assert.is((await bench("--config", "x.yaml")).code, 0);
  const [first] = runs("combos") as [string];
  for (const [args, message] of [
    [["--replay", first, "--seed", "3"], /--replay takes everything from the result that it repeats: leave out --seed/],
    [["--replay", first, "--config", "x.yaml"], /leave out --config/],
    [["--replay", "none"], /none: no such file or folder/],
    [["--replay", "x.yaml"], /x\.yaml: is not JSON/],
    [["--resume", first], /the run is complete; repeat it with --replay .+result\.json/],
    [["--resume", first, "--output-dir", "x"], /--resume takes everything from the run that it takes up: leave out --output-dir/],
  ] as const) {
    const { code, stderr } = await bench(...args);
    assert.is(code, 2, args.join(" "));
    assert.match(stderr, message);
  }
});

test("a config that was edited in the result by hand is checked as one in a file", async () => {
  writeFileSync("x.yaml", COMBOS);
  assert.is((await bench("--config", "x.yaml")).code, 0);
  const [first] = runs("combos") as [string], path = join(first, "result.json"), whole = JSON.parse(readFileSync(path, "utf8"));
  for (const [changes, message] of [
    [{ technique: "none" }, /result\.json: config\.technique: expected PagedAttention/],
    [{ max_tokens: -1 }, /config\.max_tokens: expected a whole number/],
    [{ arms: { none: {}, x: { k: 1 } } }, /config\.arms: x: k has no effect without a draft/],
  ] as const) {
    writeFileSync(path, JSON.stringify({ ...whole, config: { ...whole.config, ...changes } }));
    const { code, stderr } = await bench("--replay", path);
    assert.is(code, 2, stderr);
    assert.match(stderr, message);
  }
});

test("results are written even where the first run's were not, to where it says or where it is told", () => {
  const fake = fakeResult(), result = { ...fake, config: { ...fake.config, kv_memory: 1 << 20, save_results: false, output_dir: "old" } };
  const { config, file, origins } = replayed(result, "r.json", undefined);
  assert.equal([config.save_results, config.output_dir, file, origins["output_dir"]],
    [true, "old", "r.json", fake.configOrigins["output_dir"]]);
  const other = replayed(result, "r.json", "new");
  assert.equal([other.config.output_dir, other.origins["output_dir"]], ["new", "flag"]);
});

test.run();
