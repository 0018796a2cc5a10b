/**
 * What tests of whole models share: loading with everything freed afterwards, checkpoints that differ from a golden in a tensor or a
 * key, the Gpu behind an LLM, and a count of what is asked of the device.
 */

import { mkdtemp, readFile, rm, writeFile, copyFile, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { Checkpoint } from "../../engine/checkpoint.ts";
import { Gpu, type OpenOptions } from "../../engine/gpu.ts";
import { writeSafetensors, type TensorData } from "../../engine/safetensors_writer.ts";
import type { SafetensorsDtype } from "../../engine/safetensors_header.ts";
import { LLM, type LoadOptions } from "../../index.ts";
import { Runner } from "../../models/runner.ts";

/** Folder of a bundled model or of a golden's own checkpoint. */
export function folderOf(name: string): string {
  const bundled = ["tiny-neox", "tiny-neox-draft", "tiny-qwen2"].includes(name);
  return fileURLToPath(new URL(bundled ? `../../assets/models/${name}` : `../fixtures/goldens/${name}`, import.meta.url));
}

/** Load, run `body`, close, and see that nothing is left on the GPU. */
export async function withModel(model: string, options: LoadOptions, body: (llm: LLM) => Promise<void>): Promise<void> {
  const llm = await LLM.load(model, options);
  try {
    await body(llm);
  } finally {
    await llm.close();
  }
  assert.is(llm.memory().total, 0, "bytes on the GPU after close()");
}

/** Load without compiling what the test will not run: whatever it does run is compiled then. Give `test.after` what this returns. */
export function withoutWarmUp(): () => void {
  const { prepare } = Runner.prototype;
  Runner.prototype.prepare = () => Promise.resolve();
  return () => { Runner.prototype.prepare = prepare; };
}

/** Run `body`, which gets the devices that are opened in it, with `options` forced on each and after `prepare` has been at it. */
export async function withGpus<T>(options: OpenOptions, body: (opened: readonly Gpu[]) => Promise<T>, prepare: (gpu: Gpu) => void = () => {}): Promise<T> {
  const { open } = Gpu;
  const opened: Gpu[] = [];
  Gpu.open = async (asked) => {
    const gpu = await open.call(Gpu, { ...asked, ...options });
    opened.push(gpu);
    prepare(gpu);
    return gpu;
  };
  try {
    return await body(opened);
  } finally {
    Gpu.open = open;
  }
}

/** A checkpoint as it is before it is written: change `tensors` and `config` in place. */
export interface Draft { readonly tensors: Map<string, TensorData>; readonly config: Record<string, unknown> }

/** Run `body` on a copy of a checkpoint that `change` has been at; the copy is one file, and gone afterwards. */
export async function withCheckpoint(name: string, change: (draft: Draft) => void, body: (folder: string) => Promise<void>): Promise<void> {
  const source = folderOf(name);
  const config = JSON.parse(await readFile(join(source, "config.json"), "utf8")) as Record<string, unknown>;
  const draft = { tensors: await tensorsOf(source), config };
  change(draft);
  const folder = await mkdtemp(join(tmpdir(), "dawnlm-checkpoint-"));
  try {
    for (const file of await readdir(source)) if (file.startsWith("tokenizer")) await copyFile(join(source, file), join(folder, file));
    await writeFile(join(folder, "config.json"), JSON.stringify(config));
    await writeSafetensors(join(folder, "model.safetensors"), draft.tensors.values());
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Every tensor of a checkpoint with its bytes. */
export async function tensorsOf(folder: string): Promise<Map<string, TensorData>> {
  const checkpoint = await Checkpoint.open(folder);
  try {
    const tensors = new Map<string, TensorData>();
    for (const [name, { dtype, shape, byteLength }] of checkpoint.tensors) {
      const data = new Uint8Array(byteLength);
      for await (const { byteOffset, bytes } of checkpoint.pieces(name)) data.set(bytes, byteOffset);
      tensors.set(name, { name, dtype: dtype as SafetensorsDtype, shape: [...shape], data });
    }
    return tensors;
  } finally {
    await checkpoint.close();
  }
}

/** What a device is asked for from now on: calls by name, and the bytes of every buffer range that is read back. */
export interface Asked { readonly calls: ReadonlyMap<string, number>; readonly readBack: readonly number[]; stop(): void }

export function countCalls({ device }: Gpu): Asked {
  const calls = new Map<string, number>();
  const readBack: number[] = [];
  const restore: (() => void)[] = [];
  const wrap = (owner: object, name: string, note: (...args: unknown[]) => void): void => {
    const methods = owner as Record<string, (...args: unknown[]) => unknown>;
    const own = Object.hasOwn(methods, name);
    const original = methods[name]!;
    methods[name] = function counted(this: unknown, ...args: unknown[]) {
      note(...args);
      return original.apply(this, args);
    };
    restore.push(() => { if (own) methods[name] = original; else delete methods[name]; });
  };
  const count = (owner: object, ...names: readonly string[]): void => {
    for (const name of names) wrap(owner, name, () => { calls.set(name, (calls.get(name) ?? 0) + 1); });
  };
  count(device, "createBindGroup", "createBindGroupLayout", "createBuffer", "createComputePipeline", "createComputePipelineAsync", "createShaderModule", "createPipelineLayout");
  count(device.queue, "writeBuffer", "submit");
  wrap(GPUBuffer.prototype, "getMappedRange", (_offset, size) => { readBack.push(size as number); });
  return { calls, readBack, stop: () => { for (const undo of restore) undo(); } };
}

/** Index of the greatest value of each row of logits. */
export function argmaxes(logits: Float32Array, vocabSize: number): number[] {
  return Array.from({ length: logits.length / vocabSize }, (_, row) => {
    const values = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
    return values.indexOf(values.reduce((best, value) => Math.max(best, value), -Infinity));
  });
}

/** The bits of some numbers, so that equal means equal (and NaN equals itself). */
export function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** max |actual − expected| / max |expected|; NaN when a NaN is among them. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.is(actual.length, expected.length, "as many numbers as expected");
  let [error, greatest] = [0, 0];
  for (let i = 0; i < actual.length; i++) {
    error = Math.max(error, Math.abs(actual[i]! - expected[i]!));
    greatest = Math.max(greatest, Math.abs(expected[i]!));
  }
  return error / greatest;
}
