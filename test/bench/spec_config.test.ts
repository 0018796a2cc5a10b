/** What configs and flags of spec_decode may say, every file under configs/spec_decode, and the command from flags to files. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadConfig } from "../../bench/core/config.ts";
import { draftLengths } from "../../bench/core/speculation/k.ts";
import { datasetsOf } from "../../bench/core/speculation/samples.ts";
import { load, parse, refused } from "../support/bench_config.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url)), COMMAND = join(ROOT, "test/support/fake_spec_bench.ts");
const folder = mkdtempSync(join(tmpdir(), "dawnlm-spec-"));
const test = suite("configs of spec_decode");
test.after(() => { rmSync(folder, { recursive: true }); });

const SPEC = "experiment_name: x\ntechnique: spec_decode\n";

test("the command lines of the issue", () => {
  const { config, file } = parse("--config", join(ROOT, "config/spec_decode/spec_decode_small_default.yaml"));
  assert.equal([config.technique, config.draft, draftLengths(config.k), datasetsOf(config.dataset)], ["spec_decode", ["tiny-neox-draft"],
    [3, 4, 5, 6, 7, 8, 9, 10], ["pg19-sample", "wikitext-sample"]]);
  assert.match(file, /spec_decode_small_default\.yaml$/);
  const small = ["--technique", "spec_decode", "--batch-level", "small"];
  assert.equal(parse(...small, "--draft", "prompt-lookup").config.draft, ["prompt-lookup"]);
  assert.equal(parse(...small, "--draft", "self:nf4,tiny-neox-draft").config.draft, ["self:nf4", "tiny-neox-draft"]);
  assert.equal(draftLengths(parse(...small, "--k", "2-4,8").config.k), [2, 3, 4, 8]);
  assert.equal(["pg19", "wikitext-sample,pg19", "hub", "bundled"].map((name) =>
    datasetsOf(parse(...small, "--dataset", name).config.dataset)), [
    ["pg19"], ["wikitext-sample", "pg19"], ["pg19", "wikitext"], ["pg19-sample", "wikitext-sample"],
  ]);
  assert.is(parse("--technique", "KnormPress", "--dataset", "hub").config.dataset, "hub");
});

test("K: a number, a list or a range, from 1 to 16, each once", () => {
  assert.equal(["3-5", "7", "1-16", " 2 - 3 , 9"].map(draftLengths), [[3, 4, 5], [7], Array.from({ length: 16 }, (_, i) => i + 1),
    [2, 3, 9]]);
  assert.equal([4, [5, 3]].map(draftLengths), [[4], [3, 5]]);
  for (const wrong of ["", "0", "17", "5-3", "3-17", "x", "3-", "-3", "1.5", "3,3", "1-999"]) assert.is(draftLengths(wrong), null, wrong);
  for (const wrong of [0, 17, 2.5, NaN, [], [3, 3], [0]]) assert.is(draftLengths(wrong), null, String(wrong));
  assert.match(refused(`${SPEC}k: 0\n`),
    /^x\.yaml:3:\d+ {2}k: expected tokens per round, whole numbers from 1 to 16, each once: a list or a range, such as \[3, 5\] or "3-10"/);
  assert.match(refused(SPEC, { k: "2-20" }), /^--k: expected tokens per round/);
  assert.equal(draftLengths(load(`${SPEC}k: [6, 2]\n`).config.k), [2, 6]);
});

test("every file under configs/spec_decode is read, and stands for what its name says", () => {
  const files = readdirSync(join(ROOT, "configs/spec_decode"));
  assert.ok(files.length >= 6, files.join(" "));
  const read = (file: string) => loadConfig({ config: join(ROOT, "configs/spec_decode", file), flags: {} }).config;
  for (const file of files) assert.is(read(file).technique, "spec_decode", file);
  assert.equal(["small", "medium", "large"].map((level) => read(`spec_decode_${level}_default.yaml`).batch_level),
    ["small", "medium", "large"]);
  const pythia = read("spec_decode_pythia_2.8b.yaml");
  assert.equal([pythia.model, pythia.draft, datasetsOf(pythia.dataset)], ["EleutherAI/pythia-2.8b",
    ["EleutherAI/pythia-70m", "EleutherAI/pythia-160m"], ["pg19", "wikitext"]]);
  assert.equal([read("spec_decode_prompt_lookup.yaml").draft, read("spec_decode_self_nf4.yaml").draft], [["prompt-lookup"], ["self:nf4"]]);
});

test("what cannot be is refused before anything runs", () => {
  assert.match(refused(`${SPEC}draft: []\n`), /draft: expected a list of drafts, each once/);
  assert.match(refused(`${SPEC}draft: ["self:nf5"]\n`), /draft: "self:nf5" \(string\): .*nf4/);
  assert.match(refused(`${SPEC}ignore_eos: false\n`), /ignore_eos: the arms would write texts of different lengths/);
  assert.match(refused(`${SPEC}max_tokens: 11\nk: 10\n`), /k: 10 leaves no room for a round of 10 drafted tokens/);
  assert.match(refused(`${SPEC}max_model_len: 700\n`), /prompt_tokens: 640 and max_tokens \(100\) are more than max_model_len \(700\)/);
  assert.match(refused(`${SPEC}dataset: [pg19, pg19-sample]\n`),
    /dataset: pg19 and pg19-sample would both be drawn as speculative_comparison_pg19; keep one/);
  assert.match(refused(`${SPEC}dataset: c4\n`), /dataset: expected bundled/);
  assert.match(refused(`${SPEC}temperature: 0\ntop_p: 0.9\n`), /top_p: has no effect at temperature 0/);
});

test("keys of other techniques do nothing here, and these do nothing there", () => {
  assert.match(refused(`${SPEC}batch_size: 4\n`),
    /batch_size: has no effect on spec_decode, which runs prompts of one length, one at a time/);
  assert.match(refused(`${SPEC}prompts: [a]\n`), /prompts: has no effect on spec_decode/);
  assert.match(refused("experiment_name: x\ndraft: [prompt-lookup]\n"), /draft: has no effect on PagedAttention/);
  assert.match(refused("experiment_name: x\ntechnique: KnormPress\nk: 5\n"), /k: has no effect on KnormPress/);
  assert.match(refused("experiment_name: x\ntechnique: KnormPress\ndataset: pg19\n"), /dataset: expected bundled or hub, got "pg19"/);
});

test("the command: a report, JSON and two pictures; exit code 5 where K never arrived", () => {
  const bench = (fake: object, ...args: string[]) => spawnSync(process.execPath, [COMMAND, "--technique", "spec_decode", "--batch_level",
    "small", "--output-dir", folder, ...args], {
    cwd: ROOT, encoding: "utf8", env: { ...process.env, FAKE: JSON.stringify(fake) },
  });
  const { status, stdout, stderr } = bench({}, "--k", "3,5", "--max_tokens", "24");
  assert.is(status, 0, stderr);
  assert.match(stdout, /spec_decode_experiment_small_default\.md/);
  const pictures = ["pg19", "wikitext"].flatMap((name) => ["png", "svg", "vl.json"].map((end) => `speculative_comparison_${name}.${end}`));
  assert.equal(readdirSync(join(folder, "spec_decode")).sort(), [...pictures, "spec_decode_experiment_small_default.json",
    "spec_decode_experiment_small_default.md", "runs"].sort());
  for (const name of pictures.filter((file) => file.endsWith(".png"))) assert.is(readFileSync(join(folder, "spec_decode",
    name)).toString("latin1", 1, 4), "PNG");
  const invalid = bench({ stuckK: 4 }, "--k", "3", "--max_tokens", "24", "--lang", "zh", "--no-save");
  assert.is(invalid.status, 5, invalid.stderr);
  assert.match(invalid.stdout, /无效 草稿 tiny-neox-draft，数据集 pg19-sample，固定 K = 3：K 为 3，却有一轮起草了 4 个词元：K 没有传到草稿/);
});

test.run();
