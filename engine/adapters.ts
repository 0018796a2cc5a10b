/**
 * Which adapters there are and which one to take. WebGPU has no list of adapters, but Dawn names them all when asked for one that
 * does not exist. A GPU is preferred over a software adapter whenever one is there; the caller may name one instead.
 */

import { create, globals } from "webgpu";
import { GpuError, UsageError } from "./errors.ts";
import { quietly } from "./quiet.ts";

export interface AdapterName { readonly backend: string; readonly name: string; readonly software: boolean }

const SOFTWARE = /llvmpipe|lavapipe|swiftshader|software|basic render|warp/i;
const NATIVE_BACKENDS = ["vulkan", "metal", "d3d12"];
const NO_SUCH_ADAPTER = "dawnlm-asks-for-the-list";

/** Toggles of Dawn that hold for every device we open; what each one is for stands in docs/dawn.md. */
const FLAGS = [
  "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,disable_robustness,disable_polyfills_on_integer_div_and_mod",
  "disable-dawn-features=timestamp_quantization",
];

/**
 * `create()`'s result must outlive every device made from it: if it is garbage-collected first, the process crashes at a random
 * later call. So each one is held here for the life of the process, and asked again for the next device: each takes megabytes.
 */
const instances = ((globalThis as { dawnlmInstances?: Map<string, GPU> }).dawnlmInstances ??= new Map());

function instance(flags: readonly string[]): GPU {
  Object.assign(globalThis, globals);
  const key = flags.join();
  const known = instances.get(key);
  if (known !== undefined) return known;
  const gpu = quietly(() => create([...FLAGS, ...flags]));
  instances.set(key, gpu);
  return gpu;
}

let listed: Promise<readonly AdapterName[]> | undefined;

/** Every adapter of this machine in Dawn's order. Empty when no driver is installed. */
export function listAdapters(): Promise<readonly AdapterName[]> {
  return listed ??= probe();
}

async function probe(): Promise<readonly AdapterName[]> {
  const message = await quietly(() => askFor([`adapter=${NO_SUCH_ADAPTER}`])).then(() => "", (error: unknown) => String(error));
  return [...message.matchAll(/backend: '([^']*)', name: '([^']*)'/g)]
    .map(([, backend = "", name = ""]) => ({ backend, name, software: SOFTWARE.test(name) }))
    .filter(({ backend }) => NATIVE_BACKENDS.includes(backend));
}

async function askFor(flags: readonly string[]): Promise<GPUAdapter | null> {
  return instance(flags).requestAdapter({ powerPreference: "high-performance" });
}

/** Choose from the list: `auto`, `software`, an index, or part of a name. Throws UsageError with the list when nothing matches. */
export function chooseAdapter(adapters: readonly AdapterName[], wanted: string | number): AdapterName {
  const list = adapters.map(({ name, backend }, index) => `${index} ${name} (${backend})`).join("; ");
  if (adapters.length === 0) {
    throw new GpuError("no WebGPU adapter found: install a GPU driver with Vulkan, or Mesa's software driver (package mesa-vulkan-drivers; `npm start` does it on Debian and Ubuntu)");
  }
  const found = wanted === "auto" ? adapters.find(({ software }) => !software) ?? adapters[0]
    : wanted === "software" ? adapters.find(({ software }) => software)
    : /^\d+$/.test(String(wanted)) ? adapters[Number(wanted)]
    : adapters.find(({ name }) => name.toLowerCase().includes(String(wanted).toLowerCase()));
  if (found === undefined) throw new UsageError(`no adapter "${wanted}"; this machine has: ${list}`);
  return found;
}

/** Open the adapter that `wanted` names. A WebGPU adapter can give one device only, so every call makes a new one. */
export async function openAdapter(wanted: string | number): Promise<{ adapter: GPUAdapter; name: AdapterName }> {
  const name = chooseAdapter(await listAdapters(), wanted);
  const adapter = await quietly(() => askFor([`backend=${name.backend}`, `adapter=${name.name}`])).catch((error: unknown) => {
    throw new GpuError(`adapter ${name.name} cannot be opened: ${String(error)}`);
  });
  if (adapter === null) throw new GpuError(`adapter ${name.name} is listed but gives no device; run \`dawnlm doctor\``);
  return { adapter, name };
}
