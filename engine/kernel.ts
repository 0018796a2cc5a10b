/**
 * From a plain .wgsl file to a pipeline. A kernel is specialised by a generated prelude (`enable`, `alias`, `const`) in front and by
 * function slots behind: the kernel calls a function it does not define, and the launcher chooses the file that does. So a weight
 * format or a KV layout is one small file, and no kernel exists twice because of it. Bindings are read off the source: a resource
 * `@group(0) @binding(n) var<storage, read> x: …` is bound by its name `x`.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { GpuError } from "./errors.ts";
import type { Gpu } from "./gpu.ts";

/** WGSL text and the file it came from. */
export interface WgslFile { readonly name: string; readonly text: string }

/** Numbers become `u32` constants, booleans `bool`, strings stand as they are (see `f32`). */
export type Consts = Readonly<Record<string, number | boolean | string>>;

export interface Kernel {
  readonly source: WgslFile;
  readonly slots: readonly WgslFile[];
  readonly consts: Consts;
  /** WGSL extensions that it needs beside subgroups; the device must have the features. */
  readonly enables?: readonly string[] | undefined;
}

export interface Binding { readonly name: string; readonly index: number; readonly writable: boolean }

export interface Pipeline {
  readonly label: string;
  readonly bindings: readonly Binding[];
  readonly layout: GPUBindGroupLayout;
  readonly compiled: Promise<GPUComputePipeline>;
}

/** Read a WGSL file beside the caller: `wgsl(new URL("./norm.wgsl", import.meta.url))`. */
export function wgsl(url: URL): WgslFile {
  return { name: fileURLToPath(url).split(/[\\/]/).at(-1)!, text: readFileSync(url, "utf8") };
}

/** A WGSL literal that reads back as the same f32. */
export function f32(value: number): string {
  const literal = String(Math.fround(value));
  return `f32(${/[.e]/.test(literal) ? literal : `${literal}.0`})`;
}

/** The bindings a source declares, in index order. */
export function bindingsOf(text: string): Binding[] {
  const declaration = /@group\(0\)\s*@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>\s*(\w+)/g;
  return [...text.matchAll(declaration)]
    .map(([, index, access, name]) => ({ name: name!, index: Number(index), writable: access === "read_write" }))
    .sort((a, b) => a.index - b.index);
}

/** As `enable` names it. */
export const SUBGROUP_MATRIX = "chromium_experimental_subgroup_matrix";

function prelude(consts: Consts, enables: readonly string[]): string {
  const lines = Object.entries(consts).map(([name, value]) =>
    `const ${name} = ${typeof value === "number" ? `${value}u` : value};`);
  const checks = ["subgroup_uniformity", ...(enables.includes(SUBGROUP_MATRIX) ? ["chromium.subgroup_matrix_uniformity"] : [])];
  const directives = [...enables.map((feature) => `enable ${feature};`), ...checks.map((check) => `diagnostic(off, ${check});`)];
  return [...directives, ...lines, ""].join("\n");
}

/** Every pipeline of a device, by its full text: the same kernel with the same constants and slots is compiled once. */
export class PipelineCache {
  readonly #gpu: Gpu;
  readonly #pipelines = new Map<string, Pipeline>();

  constructor(gpu: Gpu) { this.#gpu = gpu; }

  get size(): number { return this.#pipelines.size; }

  /** Start compiling if this specialisation is new; await `compiled` before use. */
  get(kernel: Kernel): Pipeline {
    const { fixedSubgroups, subgroupSize } = this.#gpu;
    const enables = [...(fixedSubgroups ? ["subgroups"] : ["subgroups", "subgroup_size_control"]), ...(kernel.enables ?? [])];
    const parts: WgslFile[] = [{ name: "prelude", text: prelude(kernel.consts, enables) }, kernel.source, ...kernel.slots];
    let text = parts.map((part) => part.text.replace(/\n*$/, "\n")).join("");
    if (!fixedSubgroups) text = text.replaceAll("@compute", `@compute @subgroup_size(${subgroupSize})`);
    const cached = this.#pipelines.get(text);
    if (cached !== undefined) return cached;
    const pipeline = this.#create(kernel.source.name, parts, text);
    this.#pipelines.set(text, pipeline);
    return pipeline;
  }

  #create(label: string, parts: readonly WgslFile[], code: string): Pipeline {
    const { device } = this.#gpu;
    const bindings = bindingsOf(code);
    const layout = device.createBindGroupLayout({
      label,
      entries: bindings.map(({ index, writable }) => ({
        binding: index, visibility: GPUShaderStage.COMPUTE, buffer: { type: writable ? "storage" : "read-only-storage" },
      })),
    });
    const compiled = this.#compile(label, parts, code, device.createPipelineLayout({ bindGroupLayouts: [layout] }));
    compiled.catch(() => {}); // whoever awaits `compiled` gets the error
    return { label, bindings, layout, compiled };
  }

  async #compile(label: string, parts: readonly WgslFile[], code: string, layout: GPUPipelineLayout): Promise<GPUComputePipeline> {
    const { device } = this.#gpu;
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label, code });
    const scope = device.popErrorScope();
    const { messages } = await module.getCompilationInfo();
    await scope;
    const errors = messages.filter((message) => message.type === "error");
    if (errors.length > 0) throw new GpuError(describeErrors(label, parts, errors));
    try {
      return await device.createComputePipelineAsync({ label, layout, compute: { module, entryPoint: "main" } });
    } catch (error) {
      this.#gpu.check();
      throw new GpuError(`${label}: pipeline could not be made: ${String(error)}`, { cause: error });
    }
  }
}

/** Compiler messages with file, line and the line itself, though the compiler saw one concatenated text. */
function describeErrors(label: string, parts: readonly WgslFile[], errors: readonly GPUCompilationMessage[]): string {
  const lines = parts.flatMap(({ name, text }) =>
    text.replace(/\n*$/, "\n").split("\n").slice(0, -1).map((source, index) => ({ where: `${name}:${index + 1}`, source })));
  const described = errors.map(({ lineNum, linePos, message }) => {
    const line = lines[lineNum - 1];
    return `${line?.where ?? "?"}:${linePos} ${message}\n    ${line?.source.trim() ?? ""}`;
  });
  return `${label} does not compile:\n${described.join("\n")}`;
}
