/** Kernel microbenchmarks on a device: the command from flags to files, and a wrong kernel that is told and never timed. */

import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Ask, KernelCase } from "../../bench/core/kernels/case.ts";
import { execute } from "../../bench/core/kernels/command.ts";
import { measure } from "../../bench/core/kernels/measure.ts";
import { kernelsConfig } from "../../bench/core/kernels/options.ts";
import { DEFINITIONS, definitionsOf, select } from "../../bench/core/kernels/registry.ts";
import { Gpu } from "../../engine/gpu.ts";
import { Recorder } from "../../engine/recorder.ts";
import { traitsOf } from "../../kernels/linear_variants.ts";

const gpu = await Gpu.open();
const folder = mkdtempSync(join(tmpdir(), "dawnlm-kernels-"));
test.after(() => {
  gpu.close();
  rmSync(folder, { recursive: true });
});

const ask: Ask = {
  formats: ["nf4"], kv: null, shapes: [{ rows: 72, columns: 64, origin: "--shape" }], rows: null, variant: null, quick: true, models: [], traits: traitsOf(gpu), software: gpu.adapter.software,
};
const options = { repetitions: 3, seed: 3, cacheBytes: 1 << 16, signal: new AbortController().signal, onStep: () => {} };
const casesOf = (names: readonly string[], more: Partial<Ask>): readonly KernelCase[] => select(definitionsOf(names, []), { ...ask, ...more }, gpu.maxBinding).cases;

/** Counts how often a case is recorded; where `broken`, what it records goes nowhere, so that its output stays as it was. */
function watched(each: KernelCase, broken: boolean): { readonly case: KernelCase; readonly calls: () => number } {
  let calls = 0;
  const prepare: KernelCase["prepare"] = async (bench) => {
    const prepared = await each.prepare(bench);
    const nothing = new Recorder(bench.gpu);
    return { ...prepared, record: (recorder, copy) => { calls++; prepared.record!(broken ? nothing : recorder, copy); } };
  };
  return { case: { ...each, prepare }, calls: () => calls };
}

test("a kernel that leaves its output unwritten is WRONG, is never timed, and does not stop the others", async () => {
  const [product, lengths] = [casesOf(["matvec"], { rows: [1] })[0]!, casesOf(["advance"], { formats: null, rows: [1] })[0]!];
  const bad = watched(product, true), good = watched(lengths, false);
  const { outcomes, order, status } = await measure(gpu, [bad.case, good.case], options);
  assert.equal(outcomes.map((each) => each.status), ["wrong", "measured"]);
  assert.match(outcomes[0]!.reason!, /output 0 of row 0 is NaN, but should be/);
  assert.is(outcomes[0]!.seconds, null);
  assert.is(bad.calls(), 1, "recorded for the check alone");
  assert.is(outcomes[1]!.seconds!.samples.length, 3);
  assert.ok(outcomes[1]!.seconds!.samples.every((seconds) => seconds >= 0) && good.calls() > 1);
  assert.equal(order, [[1], [1], [1]]);
  assert.equal([status, gpu.ledger.report().total], ["complete", 0]);
});

test("a wrong case makes the exit code 5", async () => {
  const wrong = DEFINITIONS.map((definition) => (definition.name === "advance" ? { ...definition, cases: (of: Ask) => definition.cases(of).map((each) => watched(each, true).case) } : definition));
  const config = kernelsConfig({ kernel: "advance", shape: "32x64", rows: "1", repetitions: "1", roof: false, save: false });
  const { write } = process.stdout;
  let text = "";
  process.stdout.write = ((chunk: string) => { text += chunk; return true; }) as typeof write;
  const code = await execute(config, wrong).finally(() => { process.stdout.write = write; });
  assert.is(code, 5);
  assert.match(text, /WRONG, not timed: advance 32x64/);
});

test("the command: table, JSON with every sample, and a picture", async () => {
  const command = fileURLToPath(new URL("../../bench/kernels.ts", import.meta.url));
  const flags = ["--kernel", "matvec,compact", "--shape", "72x64", "--format", "nf4", "--quick", "--repetitions", "2", "--no-roof", "--output-dir", folder];
  // compact has no weights, so a format for both is refused, and nothing is measured.
  const refused = await execution(command, flags);
  assert.equal([refused.code, /compact has no weight formats/.test(refused.stderr)], [2, true]);
  const { code, stdout } = await execution(command, flags.filter((flag) => flag !== "--format" && flag !== "nf4").concat("--rows", "1").map((flag) => (flag === "matvec,compact" ? "matvec" : flag)));
  assert.is(code, 0);
  assert.match(stdout, /matvec .*72x64 .*nf4/);
  assert.equal(readdirSync(join(folder, "kernels")).sort(), ["kernels-matvec.json", "kernels-matvec.png", "kernels-matvec.svg"]);
  const report = JSON.parse(readFileSync(join(folder, "kernels", "kernels-matvec.json"), "utf8")) as { status: string; order: number[][]; cases: { format: string; status: string; seconds: { samples: number[] }; checked: { looked: number } }[] };
  assert.equal([report.status, report.order.map((round) => round.length)], ["complete", [3, 3]]);
  assert.equal(report.cases.map(({ format, status, seconds, checked }) => [format, status, seconds.samples.length, checked.looked > 10]), ["f16", "int8", "nf4"].map((format) => [format, "measured", 2, true]));
});

function execution(command: string, flags: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [command, ...flags], (error, stdout, stderr) => { resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }); });
  });
}

test.run();
