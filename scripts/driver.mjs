/** The Vulkan driver: see whether Dawn finds an adapter on this machine, and bring Mesa's driver where it does not. */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseSources } from "./apt_sources.mjs";
import { planDriver } from "./driver_plan.mjs";
import { evidence, quietly, SetupError, step } from "./steps.mjs";

const PROBE = fileURLToPath(new URL("adapter_probe.mjs", import.meta.url));
const PROBE_SECONDS = 60;
const APT = "/etc/apt";

/** What adapter_probe.mjs says when `node` runs it (state, name, reason), and as `run` all that was printed. */
export async function probeAdapter(node) {
  const run = await quietly([node, PROBE], { timeout: PROBE_SECONDS * 1000 });
  const line = run.stdout.split("\n").find((text) => text.startsWith('{"state":'));
  // A crash on the way out comes after the answer, and would strike every program here: it counts as broken.
  if (line !== undefined && run.status === 0) return { ...JSON.parse(line), run };
  const crash = `it crashed (${run.signal ?? `exit code ${run.status}`})`;
  return { state: "broken", reason: run.signal === "SIGKILL" ? `it gave no answer within ${PROBE_SECONDS} seconds` : crash, run };
}

/** The plan for this machine. */
export function planForThisMachine() {
  const osRelease = ["/etc/os-release", "/usr/lib/os-release"].find(existsSync);
  const parts = join(APT, "sources.list.d");
  const lists = existsSync(parts) ? readdirSync(parts).filter((name) => /\.(list|sources)$/.test(name)) : [];
  const files = [join(APT, "sources.list"), ...lists.map((name) => join(parts, name))].filter(existsSync);
  const sources = files.flatMap((path) => parseSources(path, readFileSync(path, "utf8")));
  return planDriver(osRelease === undefined ? "" : readFileSync(osRelease, "utf8"), sources);
}

/** May we install packages: root, and apt is there? */
export function mayInstall() {
  return process.getuid?.() === 0 && ["/usr/bin/apt-get", "/bin/apt-get"].some(existsSync);
}

/** Carry out a plan that has commands. Throws SetupError with what apt said. */
export async function installDriver({ file, lists, install }) {
  if (file !== null) {
    mkdirSync(dirname(file.path), { recursive: true });
    writeFileSync(file.path, file.text);
  }
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" };
  const update = await step("refreshing the package lists for the Vulkan driver", () => refresh(lists, env));
  const run = await step("installing Mesa's Vulkan driver", () => quietly(install, { env }));
  if (run.status === 0) return;
  throw new SetupError(`the Vulkan driver could not be installed:\n${update.status === 0 ? "" : evidence(update)}${evidence(run)}`);
}

/** `apt-get update` for the given lists only: other sources on the machine may be slow or out of reach, and are no business of ours. */
async function refresh(lists, env) {
  if (lists === null) return quietly(["apt-get", "update"], { env });
  const folder = mkdtempSync(join(tmpdir(), "dawnlm-apt-"));
  try {
    const path = join(folder, "needed.sources");
    writeFileSync(path, lists);
    const only = [`Dir::Etc::sourcelist=${path}`, "Dir::Etc::sourceparts=/dev/null", "APT::Get::List-Cleanup=0"];
    return await quietly(["apt-get", "update", ...only.flatMap((option) => ["-o", option])], { env });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
