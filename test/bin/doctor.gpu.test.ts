/** `dawnlm doctor` on this machine: every section, finite figures, and the same adapter the engine opens. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { listAdapters } from "../../engine/adapters.ts";
import { Gpu } from "../../engine/gpu.ts";
import { dawnlm } from "../support/command.ts";

const SECTIONS = ["dawnlm", "node", "platform", "packages", "adapters", "adapter", "features", "limits", "kernels", "probe", "hub", "missing"];

test("--json has every section, and its figures are numbers", async () => {
  const started = performance.now();
  const { code, stdout, stderr } = await dawnlm(["doctor", "--json"]);
  const seconds = (performance.now() - started) / 1000;
  assert.is(code, 0, stderr);
  assert.is(stderr, "");
  const report = JSON.parse(stdout);
  assert.equal(Object.keys(report).sort(), [...SECTIONS].sort());

  const gpu = await Gpu.open();
  try {
    const adapters = await listAdapters();
    assert.equal(report.adapters.map(({ name }: { name: string }) => name), adapters.map(({ name }) => name));
    assert.is(report.adapters.filter(({ auto }: { auto: boolean }) => auto).length, 1);
    const used = report.adapters[report.adapter];
    assert.is(used.auto, true);
    assert.is(used.description, gpu.adapter.description);
    assert.is(used.vendor, gpu.adapter.vendor);
    assert.is(report.kernels.family, gpu.family);
    assert.is(report.kernels.subgroupSize, gpu.subgroupSize);
    assert.ok(report.kernels.why.length > 0);
    for (const { name, present } of report.features) assert.is(present, used.features.includes(name), name);
    assert.ok(report.features.some(({ name, present }: { name: string; present: boolean }) => name === "subgroups" && present));
    for (const { name, value } of report.limits) assert.is(value, gpu.device.limits[name as keyof GPUSupportedLimits], name);
  } finally {
    gpu.close();
  }

  for (const name of ["copy", "read", "fma", "dispatch", "roundTrip"]) {
    const { value, repetitions } = report.probe[name];
    assert.ok(Number.isFinite(value) && value > 0, `${name} is ${value}`);
    assert.ok(Number.isInteger(repetitions) && repetitions >= 1, `${name} was measured ${repetitions} times`);
  }
  assert.ok(report.probe.seconds <= 8, `the probe took ${report.probe.seconds} s`);
  assert.ok(seconds < 30, `doctor took ${seconds} s`);
  assert.is(report.node.version, process.versions.node);
  assert.match(report.packages.webgpu, /^\d+\.\d+\.\d+/);
  assert.match(report.packages.tokenizers, /^\d+\.\d+\.\d+/);
  assert.ok(Array.isArray(report.missing));
});

test("the page for people says the same in words, what is missing last", async () => {
  const { code, stdout, stderr } = await dawnlm(["doctor", "--adapter", "0"]);
  assert.is(code, 0, stderr);
  for (const section of ["System", "Adapters", "Features of the adapter in use", "Limits", "Kernels", "Hugging Face", "Probe"]) {
    assert.match(stdout, new RegExp(`(^|\n\n)${section}\n  \\S`), section);
  }
  assert.match(stdout, /read +[\d.]+ GB\/s/);
  assert.match(stdout, /dispatch +[\d.]+ µs/);
  assert.match(stdout, /maxStorageBufferBindingSize .*split by rows/);
  assert.match(stdout, /\n\n(Nothing is missing\.|Missing\n(  .+\n)+(    .+\n)+[^]*)\n?$/);
  assert.not.match(stdout, /NaN|undefined|Infinity|\[object/);
});

test("an adapter that is not there is a usage error with the list", async () => {
  const { code, stdout, stderr } = await dawnlm(["doctor", "--adapter", "nonsense"]);
  assert.is(code, 2);
  assert.match(stderr, /^dawnlm: no adapter "nonsense"; this machine has: 0 [^\n]+\n$/);
  assert.is(stdout, "");
});

test.run();
