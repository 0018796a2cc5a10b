/**
 * `dawnlm doctor`: what this machine has, how fast it is, and what is missing with the command that mends it. It looks and measures but
 * changes nothing; scripts/setup.mjs is what installs.
 */

import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { print } from "../../bench/core/cli.ts";
import { chooseAdapter, listAdapters, openAdapter } from "../../engine/adapters.ts";
import { GpuError, UsageError } from "../../engine/errors.ts";
import { Gpu } from "../../engine/gpu.ts";
import { hubSettings } from "../../engine/hub_http.ts";
import { probe, type ProbeResult } from "../../engine/probe.ts";
import { doctorText } from "./doctor_text.ts";

export interface DoctorFlags { readonly adapter: string; readonly json?: boolean }

export interface Missing { readonly what: string; /** Commands or advice, one a line. */ readonly fix: readonly string[] }

export interface AdapterReport {
  readonly index: number;
  readonly name: string;
  readonly backend: string;
  readonly software: boolean;
  /** The one `--adapter auto` takes. */
  readonly auto: boolean;
  readonly vendor: string;
  readonly device: string;
  /** Driver and its version, in the driver's words. */
  readonly description: string;
  readonly features: readonly string[];
  /** Why it cannot be opened, or null. */
  readonly problem: string | null;
}

export interface DoctorReport {
  readonly dawnlm: string;
  readonly node: { readonly version: string; readonly needed: string; readonly ok: boolean };
  readonly platform: {
    readonly os: string; readonly arch: string; readonly release: string; readonly cpu: string; readonly cores: number; readonly memoryBytes: number;
  };
  /** Installed versions; null for a package that is not there. */
  readonly packages: Readonly<Record<string, string | null>>;
  readonly adapters: readonly AdapterReport[];
  /** Index of the adapter that the rest is about; null when none can be used. */
  readonly adapter: number | null;
  readonly features: readonly { readonly name: string; readonly present: boolean; readonly use: string }[];
  readonly limits: readonly { readonly name: string; readonly value: number; readonly meaning: string }[];
  readonly kernels: { readonly family: string; readonly subgroupSize: number; readonly why: string } | null;
  readonly hub: {
    readonly cache: string | null; readonly offline: boolean; readonly token: "set" | "unset"; readonly variables: Readonly<Record<string, string>>;
  };
  readonly probe: ProbeResult | null;
  readonly missing: readonly Missing[];
}

const FEATURES: Readonly<Record<string, string>> = {
  "subgroups": "needed by every kernel",
  "subgroup-size-control": "needed where an adapter varies its subgroup size",
  "shader-f16": "16-bit arithmetic; 16-bit weights and caches work without it",
  "timestamp-query": "times of single kernels",
  "chromium-experimental-subgroup-matrix": "the GPU's matrix units",
};

const LIMITS: Readonly<Record<string, string>> = {
  maxStorageBufferBindingSize: "bytes of a buffer that one kernel sees; larger weights are split by rows",
  maxBufferSize: "bytes of the largest buffer; no weight and no KV pool can be larger",
  maxStorageBuffersPerShaderStage: "buffers that one kernel can use",
  maxComputeWorkgroupStorageSize: "bytes of workgroup memory",
  maxComputeInvocationsPerWorkgroup: "invocations of a workgroup",
};

const HUB_VARIABLES = [
  "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT",
  "HF_HUB_DISABLE_PROGRESS_BARS", "HF_TOKEN_PATH",
];

const ROOT = new URL("../../", import.meta.url);

/** Returns the exit code: 4 when no adapter can be used. Throws UsageError when `adapter` names none of those there are. */
export async function doctor(flags: DoctorFlags): Promise<number> {
  const report = await examine(flags.adapter);
  await print(flags.json === true ? `${JSON.stringify(report)}\n` : doctorText(report));
  return report.kernels === null ? 4 : 0;
}

async function examine(wanted: string): Promise<DoctorReport> {
  const missing: Missing[] = [];
  const software = await examineSoftware(missing);
  const hub = await examineHub(missing);
  const adapters = await examineAdapters();
  const device = await examineDevice(wanted, adapters, missing);
  return { ...software, adapters, ...device, hub, missing };
}

async function examineSoftware(missing: Missing[]): Promise<Pick<DoctorReport, "dawnlm" | "node" | "platform" | "packages">> {
  const { NODE_NEEDED, runsTypeScript } = await script<{ NODE_NEEDED: string; runsTypeScript(version: string): boolean }>("node.mjs");
  const { node: version } = process.versions;
  const ok = runsTypeScript(version);
  if (!ok) missing.push({ what: `${NODE_NEEDED}; this is ${version}`, fix: ["npm ci"] });
  await import("tokenizers").catch((error: unknown) => {
    missing.push({ what: `the package tokenizers does not load: ${String(error).split("\n")[0]}`, fix: ["npm ci"] });
  });
  const processors = cpus();
  return {
    dawnlm: versionIn(new URL("package.json", ROOT)) ?? "unknown",
    node: { version, needed: NODE_NEEDED, ok },
    platform: {
      os: process.platform, arch: process.arch, release: release(),
      cpu: processors[0]?.model ?? "unknown", cores: processors.length, memoryBytes: totalmem(),
    },
    packages: Object.fromEntries(["webgpu", "tokenizers"].map((name) =>
      [name, versionIn(new URL(`node_modules/${name}/package.json`, ROOT))])),
  };
}

function versionIn(path: URL): string | null {
  try {
    return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
  } catch {
    return null;
  }
}

/** A module of scripts/, which is plain JavaScript for any Node. */
async function script<T>(name: string): Promise<T> {
  return await import(new URL(`scripts/${name}`, ROOT).href) as T;
}

async function examineAdapters(): Promise<AdapterReport[]> {
  const names = await listAdapters();
  const auto = names.length === 0 ? null : chooseAdapter(names, "auto");
  const reports: AdapterReport[] = [];
  for (const [index, name] of names.entries()) {
    const base = { index, ...name, auto: name === auto };
    try {
      const { adapter } = await openAdapter(index);
      const { vendor, device, description } = adapter.info;
      reports.push({ ...base, vendor, device, description, features: [...adapter.features].sort(), problem: null });
    } catch (error) {
      if (!(error instanceof GpuError)) throw error;
      reports.push({ ...base, vendor: "", device: "", description: "", features: [], problem: error.message });
    }
  }
  return reports;
}

type DeviceReport = Pick<DoctorReport, "adapter" | "features" | "limits" | "kernels" | "probe">;

async function examineDevice(wanted: string, adapters: readonly AdapterReport[], missing: Missing[]): Promise<DeviceReport> {
  let gpu: Gpu;
  try {
    gpu = await Gpu.open({ adapter: wanted });
  } catch (error) {
    if (!(error instanceof GpuError)) throw error;
    const what = adapters.length === 0 ? "a WebGPU adapter: there is no GPU driver that Dawn can use" : error.message;
    missing.push({ what, fix: await driverFix() });
    return { adapter: null, features: [], limits: [], kernels: null, probe: null };
  }
  try {
    const { index, features } = adapters[adapters.indexOf(chooseAdapter(adapters, wanted) as AdapterReport)]!;
    if (gpu.adapter.software) missing.push(...hiddenGpus());
    return {
      adapter: index,
      features: Object.entries(FEATURES).map(([name, use]) => ({ name, present: features.includes(name), use })),
      limits: Object.entries(LIMITS).map(([name, meaning]) =>
        ({ name, value: gpu.device.limits[name as keyof GPUSupportedLimits] as number, meaning })),
      kernels: { family: gpu.family, subgroupSize: gpu.subgroupSize, why: whyFamily(gpu) },
      probe: await probe(gpu).catch((error: unknown) => {
        if (!(error instanceof GpuError)) throw error;
        missing.push({
          what: `figures of the probe: ${error.message}`,
          fix: ["close other programs that use the GPU, or update its driver, and run dawnlm doctor again"],
        });
        return null;
      }),
    };
  } finally {
    gpu.close();
  }
}

function whyFamily({ family, adapter, subgroupSize }: Gpu): string {
  if (family === "gpu") return `a GPU with subgroups of ${subgroupSize}: workgroup memory pays`;
  const kind = adapter.software ? "a software adapter" : "an adapter";
  return `${kind} with subgroups of ${subgroupSize}: no barriers, broadcasts instead of workgroup memory`;
}

async function driverFix(): Promise<readonly string[]> {
  if (process.platform !== "linux") return ["update the graphics driver of this system"];
  const { planForThisMachine } = await script<{ planForThisMachine(): { byHand: string[] } }>("driver.mjs");
  return planForThisMachine().byHand;
}

/** GPUs whose device files are there though no driver offers them: what is wrong is then nearly always one of these two things. */
function hiddenGpus(): Missing[] {
  if (process.platform !== "linux") return [];
  const found: Missing[] = [];
  if (existsSync("/dev/nvidiactl")) {
    found.push({
      what: "a Vulkan driver for the NVIDIA GPU of this machine",
      fix: [
        "in a container: start it with the environment variable NVIDIA_DRIVER_CAPABILITIES=all",
        "elsewhere: install the driver's libraries for OpenGL and Vulkan (libnvidia-gl)",
      ],
    });
  }
  const nodes = existsSync("/dev/dri") ? readdirSync("/dev/dri").filter((name) => name.startsWith("renderD")) : [];
  const closed = nodes.map((name) => join("/dev/dri", name)).filter((path) => !isAllowed(path, constants.R_OK | constants.W_OK));
  if (closed.length > 0) {
    found.push({ what: `the right to use ${closed.join(" and ")}`, fix: ["sudo usermod -aG render $USER   # then log in again"] });
  }
  return found;
}

function isAllowed(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

async function examineHub(missing: Missing[]): Promise<DoctorReport["hub"]> {
  const variables = Object.fromEntries(HUB_VARIABLES.flatMap((name) => {
    const value = process.env[name];
    return value === undefined || value === "" ? [] : [[name, name === "HF_ENDPOINT" ? withoutPassword(value) : value]];
  }));
  try {
    const { cacheDir, offline, token } = await hubSettings();
    let existing = cacheDir;
    while (!existsSync(existing)) existing = dirname(existing);
    if (!isAllowed(existing, constants.W_OK)) {
      const fix = ["export HF_HOME=FOLDER   # a folder of yours with space for models"];
      missing.push({ what: `the right to write to the model cache ${cacheDir}`, fix });
    }
    return { cache: cacheDir, offline, token: token === undefined ? "unset" : "set", variables };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const what = `usable settings for Hugging Face: ${withoutPassword(error.message)}`;
    missing.push({ what, fix: ["change that variable, or unset it"] });
    return { cache: null, offline: false, token: process.env["HF_TOKEN"] ? "set" : "unset", variables };
  }
}

/** An address without the user and password that it may hold. */
function withoutPassword(text: string): string {
  return text.replace(/[^/\s"]+@/g, "");
}
