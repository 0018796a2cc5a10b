/** How setup talks while it works: one short line for each thing it does, ending in the seconds that took. */

import { spawn } from "node:child_process";

/** A step that could not be done. The message is for the user and says what to do. */
export class SetupError extends Error {}

/** Print `what`, wait for `work`, print how long it took. */
export async function step(what, work) {
  process.stderr.write(`${what} … `);
  const start = Date.now();
  try {
    return await work();
  } finally {
    process.stderr.write(`${((Date.now() - start) / 1000).toFixed(1)} s\n`);
  }
}

/** Run a command without showing what it prints. Never rejects: `status` is null when it could not be started or was killed. */
export function quietly([command, ...args], { cwd, env = process.env, timeout } = {}) {
  return new Promise((resolve) => {
    const shell = process.platform === "win32" && command === "npm"; // there npm is a .cmd file, which only a shell starts
    const child = spawn(command, args, { cwd, env, timeout, killSignal: "SIGKILL", shell, stdio: ["ignore", "pipe", "pipe"] });
    const out = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"]) child[name].setEncoding("utf8").on("data", (text) => { out[name] += text; });
    child.on("error", (error) => resolve({ ...out, status: null, signal: null, stderr: error.message }));
    child.on("close", (status, signal) => resolve({ ...out, status, signal }));
  });
}

/** The last lines of what a command printed, indented, as evidence below an error message. */
export function evidence({ stdout, stderr }, lines = 8) {
  return `${stdout}\n${stderr}`.split("\n").filter((line) => line.trim() !== "").slice(-lines).map((line) => `  ${line}\n`).join("");
}
