/** Kernel microbenchmarks without a GPU: flags, which cases there are, the floors, rates against the roofs, the report and the picture. */

import { readdirSync, readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { caseName, CLASSES, type Ask, type KernelCase } from "../../bench/core/kernels/case.ts";
import type { Outcome } from "../../bench/core/kernels/measure.ts";
import { against, sampled, stored, together } from "../../bench/core/kernels/numbers.ts";
import { kernelsConfig } from "../../bench/core/kernels/options.ts";
import { DEFINITIONS, definitionsOf, select } from "../../bench/core/kernels/registry.ts";
import { kernelsJson, kernelsText, listText, ratesOf, roofOf, type KernelsRun } from "../../bench/core/kernels/report.ts";
import { pointsOf, rooflineSpec } from "../../bench/core/kernels/roofline.ts";
import { shapedModels } from "../../bench/core/kernels/shapes.ts";
import * as work from "../../bench/core/kernels/work.ts";
import { drawSpec } from "../../bench/core/report/chart.ts";
import type { ProbeResult } from "../../engine/probe.ts";
import { UsageError } from "../../engine/errors.ts";
import { WEIGHT_FORMATS } from "../../kernels/formats.ts";
import { KV_FORMATS } from "../../kernels/kv_formats.ts";
import { candidates, type DeviceTraits } from "../../kernels/linear_variants.ts";

const SOFTWARE: DeviceTraits = { family: "software", subgroupSize: 8, maxInvocations: 1024, workgroupBytes: 32_768, f16: true, matrices: false };
const GPU: DeviceTraits = { family: "gpu", subgroupSize: 32, maxInvocations: 1024, workgroupBytes: 49_152, f16: true, matrices: true };
const BINDING = 2 ** 31;
const models = await shapedModels();
const ask = (more: Partial<Ask> = {}): Ask => ({ formats: null, kv: null, shapes: null, rows: null, variant: null, quick: false, models, traits: SOFTWARE, software: true, ...more });

function refused(flags: Record<string, unknown>): string {
  try {
    kernelsConfig(flags);
  } catch (error) {
    assert.instance(error, UsageError);
    return (error as Error).message;
  }
  throw new Error(`${JSON.stringify(flags)} was taken`);
}

test("flags: what was asked for, and defaults", () => {
  assert.equal(kernelsConfig({}), {
    kernels: null, formats: null, kv: null, shapes: null, rows: null, variant: null, quick: null, repetitions: null, adapter: "auto", seed: 0, roof: true, json: false, list: false,
    outputDir: "results", save: true,
  });
  const config = kernelsConfig({ kernel: "matvec,matmul", format: "nf4,f16", shape: "4096x1024,8x16", variant: "split", quick: false, roof: false });
  assert.equal([config.kernels, config.formats, config.variant, config.quick, config.roof], [["matvec", "matmul"], ["nf4", "f16"], "split", false, false]);
  assert.equal(config.shapes!.map(({ rows, columns }) => [rows, columns]), [[4096, 1024], [8, 16]]);
});

test("flags: each problem has a line that says what would be right", () => {
  assert.match(refused({ kernel: "matvek" }), /no kernel "matvek"; did you mean matvec\?/);
  assert.match(refused({ kernel: "rms_norm", format: "f16" }), /rms_norm has no weight formats/);
  assert.match(refused({ kernel: "embed", format: "nf4" }), /embed does not take nf4; it takes f32, f16, bf16/);
  assert.match(refused({ kernel: "rerotate", kv: "kivi4" }), /does not take kivi4/);
  assert.match(refused({ kernel: "matvec", rows: "9" }), /matvec takes 1 to 8 .*got 9/);
  assert.match(refused({ kernel: "matmul", rows: "8" }), /matmul takes 9 or more/);
  assert.match(refused({ kernel: "compact", rows: "2", variant: "x" }), /compact has one variant only\n--rows: compact has no rows/);
  assert.match(refused({ kernel: "append", shape: "16x64", rows: "32" }), /32 tokens .* more than the 16 entries/);
  assert.match(refused({ kernel: "matvec", shape: "64x12" }), /multiples of 8 \(outputs x inputs\), got 64x12/);
  for (const shape of ["64", "0x8", "64x", "8x8,8x8", "axb", "-1x8", "99999999x8"]) assert.match(refused({ kernel: "matvec", shape }), /--shape: expected ROWSxCOLS/, shape);
  for (const flag of ["shape", "rows", "variant"]) assert.match(refused({ [flag]: flag === "shape" ? "8x8" : "1" }), new RegExp(`--${flag}: .* needs --kernel`));
  assert.is(refused({ format: "nf5", repetitions: "0", seed: "x" }).split("\n").length, 3);
});

test("every kernel with an entry point belongs to a case, and no case to a file that is not there", () => {
  const folder = new URL("../../kernels/", import.meta.url);
  const entries = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".wgsl") && readFileSync(new URL(name, folder), "utf8").includes("@compute"));
  const covered = new Set(DEFINITIONS.flatMap(({ sources }) => sources));
  assert.equal([...covered].sort(), entries.sort());
  assert.is(new Set(DEFINITIONS.map(({ name }) => name)).size, DEFINITIONS.length);
  for (const each of CLASSES) assert.ok(DEFINITIONS.some((definition) => definition.class === each), each);
});

test("cases: all formats, all variants that fit, one name each, with a floor and a model", () => {
  for (const [traits, software] of [[SOFTWARE, true], [GPU, false]] as const) {
    const { cases, leftOut } = select(DEFINITIONS, ask({ traits, software }), BINDING);
    assert.equal(leftOut, []);
    assert.is(new Set(cases.map(caseName)).size, cases.length);
    for (const each of cases) {
      assert.ok(each.work.bytes > 0 && each.work.flops >= 0 && each.binding > 0 && each.shape.origin !== "", caseName(each));
    }
    for (const { name, formats, kv } of DEFINITIONS) {
      const own = cases.filter(({ kernel }) => kernel === name);
      assert.ok(own.length > 0, name);
      if (formats !== null) assert.equal(new Set(own.map(({ format }) => format)), new Set(formats), name);
      if (kv !== null) assert.equal(new Set(own.map((each) => each.kv)), new Set(kv), name);
    }
    const head = cases.filter(({ kernel, format, batch, shape }) => kernel === "matvec" && format === "bf16" && batch === 1 && shape.rows === 50_304);
    assert.is(head.length, candidates({ rows: "one", N: 50_304, K: 512, gated: false, normed: false, format: "bf16" }, traits).length);
    assert.is(head.filter(({ chosen }) => chosen).length, 1);
  }
});

test("cases: a quick run is a part of the whole and says what it leaves out; large operands are left out by name", () => {
  const [all, quick] = [select(DEFINITIONS, ask(), BINDING), select(DEFINITIONS, ask({ quick: true }), BINDING)];
  assert.ok(quick.cases.length < 100 && quick.cases.length < all.cases.length / 10);
  assert.equal(new Set(quick.cases.map(({ kernel }) => kernel)).size, DEFINITIONS.length);
  const names = new Set(all.cases.map(caseName));
  assert.equal(quick.cases.filter((each) => !names.has(caseName(each))).map(caseName), []);
  assert.match(quick.leftOut[0]!, new RegExp(`^${all.cases.length - quick.cases.length} of ${all.cases.length} cases, since the run is quick`));
  const small = select(definitionsOf(["matvec"], []), ask({ formats: ["f32"] }), 128 << 20);
  assert.match(small.leftOut[0]!, /operand larger than the 134217728 bytes .*matvec 151936x896 f32/);
  assert.ok(small.cases.every(({ binding, format }) => binding <= 128 << 20 && format === "f32"));
});

test("cases: asked-for formats, shapes, rows and variants alone", () => {
  const shape = { rows: 64, columns: 32, origin: "--shape" };
  const of = (name: string, more: Partial<Ask>): string[] => select(definitionsOf([name], []), ask(more), BINDING).cases.map(caseName);
  assert.equal(of("matvec", { shapes: [shape], rows: [4], formats: ["nf4"], variant: "rows=4" }), ["matvec 64x32 rows 4 nf4 matmul_broadcast rows=4"]);
  assert.equal(of("attention_prefill", { shapes: [shape], rows: [16], kv: ["int4"] }), ["attention_prefill 64x32 rows 16 kv int4"]);
  assert.equal(of("sample", { shapes: [shape], rows: [2], variant: "filters" }), ["sample 2x32 rows 2 filters"]);
  const { cases, leftOut } = select(DEFINITIONS, ask({ kv: ["f16"], quick: true }), BINDING);
  assert.ok(cases.every(({ kv }) => kv === "f16"));
  assert.match(leftOut.join("\n"), /kernels that have no such format: matvec, matmul/);
});

test("floors by hand", () => {
  const [N, K] = [64, 128];
  const bytes = { f32: 4 * N * K, f16: 2 * N * K, bf16: 2 * N * K, int8: N * K + 4 * N, "llm.int8": N * K + 4 * N, nf4: N * K / 2 + N * K / 64 * 4, fp4: N * K / 2 + N * K / 64 * 4 };
  for (const [format, wanted] of Object.entries(bytes)) assert.is(work.weightBytes(format as (typeof WEIGHT_FORMATS)[number], N, K), wanted, format);
  assert.is(work.weightBytes("nf4-double", 64, 256), 64 * 256 / 2 + 64 * 256 / 64 * (1 + 4 / 256));
  assert.equal(work.product("f16", N, K, 3), { bytes: 2 * N * K + 4 * 3 * (K + N), flops: 2 * 3 * N * K });
  assert.equal(work.norm("rms", 8, 2), { bytes: 4 * (2 * 2 * 8 + 8), flops: 64 });
  assert.equal(work.copy(10), { bytes: 20, flops: 0 });
  // Two heads of 4 on one KV head whose entry takes 32 bytes; one row sees three entries.
  assert.equal(work.attention({ heads: 2, kvHeads: 1, headDim: 4, entry: 32 }, 1, 3, 3), { bytes: 3 * 32 + 4 * 2 * 8, flops: (16 + 3) * 2 * 3 });
  assert.is(work.entryBytes({ format: "kivi4", headDim: 64 }, { format: "int4", headDim: 64, group: 32 }, 16), 4 * (64 * 3 / 16) + 4 * (8 + 2));
  assert.equal(KV_FORMATS.includes("kivi4"), true);
});

test("roofs: the one that binds, and the highest of two probes", () => {
  const roof = { gigabytesPerSecond: 10, gigaflops: 100 };
  assert.equal(work.bound({ bytes: 1e9, flops: 1e9 }, roof), { seconds: 0.1, by: "memory" });
  assert.equal(work.bound({ bytes: 1e9, flops: 1e11 }, roof), { seconds: 1, by: "arithmetic" });
  assert.equal(roofOf([probed(4, 9, 70), probed(8, 3, 90)]), { gigabytesPerSecond: 9, gigaflops: 90 });
  const rates = ratesOf(outcome(cheap(), 0.2), roof)!;
  assert.equal(rates, { gigabytesPerSecond: 5, gigaflops: 5, percentOfRoof: 50, bound: "memory" });
  assert.is(ratesOf(outcome(cheap(), null), roof), null);
});

test("comparisons: NaN and anything beyond the error are wrong and are named; samples hold both ends", () => {
  const near = (got: number[]) => against(got, [0, 1], (i) => ({ value: i, error: 0.1 }), 9, (i) => `output ${i}`);
  assert.equal(near([0, 1.05]), { wrong: null, looked: 2, of: 9 });
  assert.match(near([0, NaN]).wrong!, /output 1 is NaN, but should be 1 ± 1\.0e-1/);
  assert.match(together(near([0, 1]), near([0.2, 7])).wrong!, /output 0/);
  assert.equal(sampled(3, 10), [0, 1, 2]);
  for (const count of [100, 50_304]) {
    const looked = sampled(count, 40);
    assert.ok(looked.length <= 40 && looked.includes(0) && looked.includes(count - 1) && looked.every((i) => i < count));
  }
  assert.equal([...stored(Float32Array.of(1 / 3), "bf16").values], [0.333984375]);
});

function probed(read: number, copy: number, fma: number): ProbeResult {
  const figure = (value: number) => ({ value, repetitions: 3 });
  return { read: figure(read), copy: figure(copy), fma: figure(fma), dispatch: figure(2), roundTrip: figure(9), bufferBytes: 1, seconds: 1 };
}

function cheap(more: Partial<KernelCase> = {}): KernelCase {
  return {
    kernel: "matvec", class: "product", format: "f16", kv: null, variant: "one subgroups=1", chosen: true, shape: { rows: 8, columns: 16, origin: "a, b, c" }, batch: 1,
    work: { bytes: 1e9, flops: 1e9 }, binding: 1, prepare: () => { throw new Error("no GPU here"); }, ...more,
  };
}

function outcome(of: KernelCase, seconds: number | null, more: Partial<Outcome> = {}): Outcome {
  const summary = seconds === null ? null : { median: seconds, p10: seconds, p90: seconds, min: seconds, max: seconds, samples: [seconds] };
  return { case: of, status: "measured", reason: null, checked: { wrong: null, looked: 2, of: 9 }, compileMs: 3, kernels: ["matvec.wgsl"], clock: "timestamps", calls: 2, seconds: summary, cached: false, ...more };
}

const wrong = outcome(cheap({ kernel: "append", class: "cache", format: null, kv: "int8", variant: null }), null, { status: "wrong", reason: "query 3 of row 0 is 1, but should be 2" });
const copied = outcome(cheap({ kernel: "gather", class: "cache", work: { bytes: 1e9, flops: 0 }, variant: null }), 0.1, { cached: true });

function run(outcomes: readonly Outcome[], roof: KernelsRun["roof"] = [probed(10, 8, 100)]): KernelsRun {
  return {
    config: kernelsConfig({ seed: "5" }), quick: true, repetitions: 1, cacheBytes: 64 << 20, leftOut: ["3 of 9 cases"], roof, started: "2026-01-01T00:00:00.000Z", seconds: 2,
    measured: { outcomes, status: "complete", clock: "timestamps", order: [[0, 1]] }, machine: { cpu: "a cpu" } as KernelsRun["machine"],
    environment: { adapter: { vendor: "", architecture: "", device: "d", description: "a device", backend: "vulkan", software: true }, kernelFamily: "software", subgroupSize: 8, features: [], limits: {} },
  };
}

test("report: rates, marks, what is wrong, left out and unsure", () => {
  const text = kernelsText(run([outcome(cheap(), 0.2), copied, wrong]));
  assert.match(text, /matvec +│ 8x16 +│ +1 │ f16 +│ one subgroups=1 │ a \+2 +│ +200000 │ 200000 – 200000 │ +5\.00 │ +5\.00 │ +50\.0 │ memory +│ \*/);
  assert.match(text, /append .*│ kv int8 .*WRONG/);
  assert.match(text, /WRONG, not timed: append 8x16 rows 1 kv int8: query 3 of row 0 is 1/);
  assert.match(text, /gather .*│ memory +│ c/);
  assert.match(text, /Left out: 3 of 9 cases\./);
  assert.match(text, /a software adapter/);
  assert.not.match(text, /pass the roof/);
  assert.match(kernelsText(run([outcome(cheap(), 0.05)])), /1 cases? pass the roof/);
  assert.match(kernelsText(run([outcome(cheap(), 0.2)], null)), /Roof: not measured/);
  const json = JSON.parse(kernelsJson(run([outcome(cheap(), 0.2), wrong]))) as { schemaVersion: number; order: unknown; seed: number; cases: Record<string, unknown>[]; environment: Record<string, unknown> };
  assert.equal([json.schemaVersion, json.seed, json.order, json.environment["cpu"]], [1, 5, [[0, 1]], "a cpu"]);
  assert.equal([json.cases[0]!["floor"], (json.cases[0]!["seconds"] as { samples: number[] }).samples, json.cases[1]!["status"]], [{ bytes: 1e9, flops: 1e9 }, [0.2], "wrong"]);
  assert.match((json.cases[1]!["seconds"] as { reason: string }).reason, /query 3/);
  for (const { name } of DEFINITIONS) assert.ok(listText(DEFINITIONS).includes(name));
});

test("roofline: both roofs, a colour and a shape for each class, and no place for copies or what is wrong", async () => {
  const attention = outcome(cheap({ kernel: "attention_decode", class: "attention", format: null, kv: "f16", work: { bytes: 1e9, flops: 4e10 } }), 1);
  const roof = { gigabytesPerSecond: 10, gigaflops: 100 };
  const outcomes = [outcome(cheap(), 0.2), attention, copied, wrong];
  assert.equal(pointsOf(outcomes, roof).map(({ kernel, intensity, gigaflops }) => [kernel, intensity, gigaflops]), [["matvec f16", 1, 5], ["attention decode f16", 40, 40]]);
  const { svg, png } = await drawSpec(rooflineSpec({ title: "Roofline", subtitle: ["here"], outcomes, roof })!);
  for (const words of ["memory: 10.0 GB/s", "arithmetic: 100 GFLOP/s", "matvec f16", "attention decode f16", "product", "Not here: 1 case", "#0072B2", "#D55E00"]) {
    assert.ok(svg.toLowerCase().includes(words.toLowerCase()), words);
  }
  assert.ok(png.length > 10_000);
  assert.ok(rooflineSpec({ title: "Roofline", subtitle: [], outcomes: [outcome(cheap(), 0.2)], roof: null }) !== null, "without roofs");
  assert.is(rooflineSpec({ title: "Roofline", subtitle: [], outcomes: [copied, wrong], roof }), null);
});

test.run();
