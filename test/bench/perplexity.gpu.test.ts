/** `node bench/perplexity.ts` as a user runs it: its tables, its file, its exit codes. */

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const test = suite("bench/perplexity.ts");

/** "code, standard output and error". */
function bench(...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile(process.execPath, ["bench/perplexity.ts", ...args], { cwd: ROOT }, (error, stdout, stderr) => { resolve(`${error?.code ?? 0} ${stdout}${stderr}`); });
  });
}

test("perplexity of a text with its protocol, and the distance from other formats, in the terminal and as JSON", async () => {
  const folder = mkdtempSync(join(tmpdir(), "dawnlm-perplexity-"));
  try {
    const common = ["--model", "tiny-neox-draft", "--context", "64", "--max-windows", "2", "--max-model-len", "64"];
    const rolling = await bench(...common, "--protocol", "lm-eval-rolling", "--text", "sotu");
    assert.match(rolling, /^0 tiny-neox-draft: weights auto, kv f16, text sotu\nlm-eval-rolling\(64\): 128 tokens in 2 windows, \d+ tokens\/s\n\nperplexity +\d+\.\d+ ± [^]*word perplexity[^]*bits per byte/);
    const json = join(folder, "out", "kld.json");
    const compared = await bench(...common, "--stride", "32", "--weights", "bf16", "--base-weights", "f32", "--json", json);
    assert.match(compared, /^0 [^]*hf-strided\(64, 32\): 95 tokens in 2 windows[^]*PPL\(base\): f32, kv f32[^]*KLD\(base ‖ Q\), nats +[^]*same top token +\d+\.\d+ %[^]*Report: /);
    assert.not.match(rolling + compared, /\bNaN\b|Infinity|undefined/);
    const read = JSON.parse(readFileSync(json, "utf8"));
    assert.equal([read.schemaVersion, read.experiment, read.protocol.name, read.perplexity, read.config.base.weights], [1, "perplexity", "hf-strided(64, 32)", null, "f32"]);
    const { kld, perToken, ratio, perplexity, basePerplexity, tokensPerWindow } = read.divergence;
    assert.equal([tokensPerWindow, perToken.klds.length, Math.max(...perToken.klds)], [[63, 32], 95, kld.max]);
    assert.ok(Math.abs(ratio.value - perplexity.value / basePerplexity.value) < 1e-9 && kld.mean > 0 && kld.mean < 1e-2);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("what cannot be run: one line each and exit code 2", async () => {
  const folder = mkdtempSync(join(tmpdir(), "dawnlm-perplexity-"));
  try {
    writeFileSync(join(folder, "short.txt"), "Anne");
    assert.match(await bench("--protocol", "hf", "--context", "x"), /^2 dawnlm: --protocol: expected one of hf-strided[^\n]*\ndawnlm: --context: expected[^\n]*\n$/);
    assert.match(await bench("--text", join(folder, "none.txt")), /^2 dawnlm: --text [^\n]*none\.txt: no such file[^\n]*\n$/);
    const short = await bench("--model", "tiny-neox-draft", "--text", join(folder, "short.txt"), "--context", "64", "--max-model-len", "64");
    assert.match(short, /^2 [^]*dawnlm: perplexity: \d+ tokens are fewer than one window of 64: give a longer text or lower context\n$/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
