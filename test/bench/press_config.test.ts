/** What the configs of the experiments on presses may say: names, lists in one argument, keys that would do nothing, and every file under configs/. */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadConfig } from "../../bench/core/config.ts";
import { load, parse, refused } from "../support/bench_config.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const test = suite("configs of presses");

const KNORM = "experiment_name: x\ntechnique: KnormPress\n", KV = "experiment_name: x\ntechnique: KVPress\nkv_memory: 1000000\n";

test("the sources' own command line, with underscores and with hyphens", () => {
  for (const join of ["_", "-"]) {
    const flag = (name: string): string => `--${name.replaceAll("_", join)}`;
    const { config, file } = parse(
      "--technique", "KnormPress", flag("keep_ratios"), "1.0,0.9,0.8,0.7", flag("prune_after"), "512", flag("skip_layers"), "0", flag("num_wikitext_samples"), "3", flag("num_pg19_samples"), "2",
    );
    assert.equal([config.keep_ratios, config.prune_after, config.skip_layers, config.num_wikitext_samples, config.num_pg19_samples], [[1, 0.9, 0.8, 0.7], 512, [0], 3, 2]);
    assert.match(file, /configs\/KnormPress\/knormpress_standard\.yaml$/);
  }
  assert.equal(parse("--technique", "knormpress", "--skip-layers", "").config.skip_layers, []);
  assert.equal(parse("--technique", "KnormPress", "--skip-layers=0,1, 2").config.skip_layers, [0, 1, 2]);
  assert.match(parse("--config", join(ROOT, "config/KnormPress/knormpress_standard.yaml")).config.experiment_name, /^standard$/);
});

test("presets stand for the levels; the presses of a list may have commas of their own", () => {
  assert.equal(["small", "medium", "large"].map((batchLevel) => loadConfig({ technique: "KnormPress", batchLevel, flags: {} }).config.experiment_name), ["quick", "standard", "full"]);
  assert.equal(parse("--technique", "KVPress", "--presses", "snapkv,composed(knorm, adakv(tova)),random", "--ratios", "0.5,0.9").config.presses, ["snapkv", "composed(knorm, adakv(tova))", "random"]);
});

test("every file under configs/ is read, and the sources' presets are theirs", () => {
  for (const technique of ["KnormPress", "KVPress"]) {
    const files = readdirSync(join(ROOT, "configs", technique));
    assert.ok(files.length >= 4, files.join(" "));
    for (const file of files) assert.is(loadConfig({ config: join(ROOT, "configs", technique, file), flags: {} }).config.technique, technique, file);
  }
  const ratios = (name: string): readonly number[] => loadConfig({ config: join(ROOT, `configs/KnormPress/knormpress_${name}.yaml`), flags: {} }).config.keep_ratios;
  assert.equal([ratios("quick"), ratios("standard"), ratios("extreme")], [[1, 0.9], [1, 0.9, 0.8, 0.7], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]]);
  assert.is(ratios("full").length, 7);
  for (const name of ["quick", "standard", "full", "extreme", "pythia_70m"]) {
    const { config } = loadConfig({ config: join(ROOT, `configs/KnormPress/knormpress_${name}.yaml`), flags: {} });
    assert.ok(config.prompt_tokens >= config.prune_after, `${name}: the prompt is long enough to be pruned`);
  }
});

test("ratios, layers and counts out of range are refused with what was expected", () => {
  assert.match(refused(`${KNORM}keep_ratios: [0]\n`), /^x\.yaml:3:\d+ {2}keep_ratios: expected a list of shares to keep, each above 0 to 1 and named once/);
  assert.match(refused(`${KNORM}keep_ratios: [0.9, 0.9]\n`), /named once/);
  assert.match(refused(`${KNORM}keep_ratios: [1.1]\n`), /keep_ratios: expected/);
  assert.match(refused(KNORM, { keep_ratios: [0.9, "x"] }), /^--keep-ratios: expected/);
  assert.match(refused(`${KNORM}skip_layers: [-1]\n`), /skip_layers: expected a list of layers/);
  assert.match(refused(`${KNORM}num_wikitext_samples: 0\nnum_pg19_samples: 0\n`), /there is nothing to run/);
  assert.match(refused(`${KNORM}max_model_len: 700\n`), /prompt_tokens: 640 and max_tokens \(100\) are more than max_model_len \(700\)/);
  assert.match(refused(`${KV}ratios: [1]\n`), /ratios: expected a list of shares to evict, each from 0 to below 1/);
  assert.match(refused(`${KV}continuation: 400\nmax_model_len: 1000\n`), /prompt_tokens: 640 and continuation \(400\)/);
});

test("a prompt shorter than prune_after is no mistake of the config: the run says INVALID", () => {
  assert.is(load(`${KNORM}prompt_tokens: 111\n`).config.prompt_tokens, 111);
});

test("unknown presses are refused with the nearest name; a budget must be given", () => {
  assert.match(refused(`${KV}presses: [snapkw]\n`), /presses: "snapkw" \(string\): .*did you mean snapkv/);
  assert.match(refused(`${KV}presses: ["adakv(snapkw)"]\n`), /did you mean snapkv/);
  assert.match(refused("experiment_name: x\ntechnique: KVPress\n"), /kv_memory: is missing: bytes of keys and values/);
});

test("keys of other techniques do nothing and are refused", () => {
  assert.match(refused(`${KNORM}presses: [snapkv]\n`), /presses: has no effect on KnormPress, which runs samples of one length/);
  assert.match(refused(`${KNORM}batch_size: 4\n`), /batch_size: has no effect on KnormPress/);
  assert.match(refused(`${KNORM}prompts: [a]\n`), /prompts: has no effect on KnormPress/);
  assert.match(refused(`${KV}keep_ratios: [0.9]\n`), /keep_ratios: has no effect on KVPress, which admits as many sequences as memory holds/);
  assert.match(refused(`${KV}perplexity_context: 64\n`), /perplexity_context: has no effect on KVPress/);
  assert.match(refused("experiment_name: x\nprune_after: 5\n"), /prune_after: has no effect on PagedAttention/);
  assert.match(refused(`${KNORM}ignore_eos: false\n`), /ignore_eos: the arms would write texts of different lengths/);
  assert.match(refused(`${KNORM}press: knorm\n`), /press: has no effect here: techniques KnormPress and KVPress run presses/);
});

test.run();
