/** `node bench/perplexity.ts` under presses and `node bench/smoke.ts` as a user runs them, on the smallest bundled model. */

import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const test = suite("presses from the command line");
let folder: string;
test.before.each(() => { folder = mkdtempSync(join(tmpdir(), "dawnlm-presses-")); });
test.after.each(() => { rmSync(folder, { recursive: true }); });

/** "code, standard output and error". */
function run(script: string, ...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], { cwd: ROOT }, (error, stdout, stderr) => { resolve(`${error?.code ?? 0} ${stdout}${stderr}`); });
  });
}

const perplexity = (...args: string[]): Promise<string> =>
  run("bench/perplexity.ts", "--model", "tiny-neox-draft", "--dataset", "wikitext-sample", "--ppl_apply_press", "--context-limit", "96", "--output_dir", folder, ...args);
const json = (): any => JSON.parse(readFileSync(join(folder, "perplexity", readdirSync(join(folder, "perplexity"))[0]!), "utf8"));
const spread = (kept: readonly (readonly number[])[]): number[] => [Math.min(...kept.flat()), Math.max(...kept.flat())];

test("ratio 0 is no press bit for bit; ratio 0.9 keeps a tenth, frees memory and changes the prediction", async () => {
  const told = await perplexity("--press", "knorm", "--compression_ratio", "0,0.9", "--context", "64", "--continuation", "16", "--max_windows", "2", "--max_new_tokens", "4", "--repetitions", "1");
  assert.match(told, /^0 [^]*quality: prefill-continue\(64, 16\): 32 tokens in 2 of \d+ windows[^]*│ no_press │[^]*Report: /);
  assert.ok(/│ knorm +│ +0 │/.test(told) && /│ knorm +│ +0\.9 │/.test(told), told);
  const { noPress, rows, protocol } = json(), none = rows.find(({ ratio }: any) => ratio === 0), most = rows.find(({ ratio }: any) => ratio === 0.9);
  assert.equal([protocol.name, none.ratio, none.engaged, most.ratio, most.engaged], ["prefill-continue(64, 16)", 0, false, 0.9, true]);
  assert.equal(none.quality.perToken.nlls, noPress.nlls);
  assert.equal([none.quality.kld.max, none.quality.sameTop.mean], [0, 1]);
  const same = most.quality.perToken.nlls.flatMap((nll: number, i: number) => (nll === noPress.nlls[i] ? [i] : []));
  assert.equal(same, [0, 16], "only the first token of a window is predicted by what was read before the press acts");
  assert.equal([spread(most.quality.press.kept), most.quality.press.seen, most.quality.press.freedBytes > 0], [[6, 6], 64, true]);
  assert.equal([spread(most.speed.press.kept), most.speed.press.seen], [[9, 9], 92]);
});

test("knorm after every token under decode; behind a text that is too short for it: INVALID, exit code 5", async () => {
  const common = ["--keep_ratio", "0.5", "--context", "64", "--max_windows", "1", "--max_new_tokens", "0"];
  const told = await perplexity(...common, "--prune_after", "32", "--skip_layers", "0");
  assert.match(told, /^0 [^]*quality: decode\(64\): 63 tokens in 1 of \d+ windows/);
  const { press } = json().rows[1].quality;
  assert.equal(press, { ...press, events: 2, evicted: 2 * 3 * 16, seen: 48, kept: [[48, 48, 48], [16, 16, 16]] }, "from 32 to 16 entries, again and again; layer 0 is left alone");
  const idle = await perplexity(...common);
  assert.match(idle, /^5 [^]*INVALID knorm: quality: the context has 64 tokens, fewer than prune_after 512: nothing was pruned/);
});

test("the smoke test says what was kept and freed", async () => {
  const told = await run("bench/smoke.ts", "--model", "tiny-neox-draft", "--max_new_tokens", "4", "--context_tokens", "96");
  assert.match(told, /^0 tiny-neox-draft, knorm\(0\.5\): 96 tokens of Persuasion, 4 new ones[^]*kept 48 of 96 entries in each of 6 KV heads \(2 layers\); evicted 288 in 1 act[^]*freed \d+\.\d KiB[^]*text: …/);
  assert.match(await run("bench/smoke.ts", "--press", "knrom"), /^2 dawnlm: [^\n]*knrom[^\n]*did you mean knorm\?[^\n]*\n$/);
});

test.run();
