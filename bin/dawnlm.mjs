#!/usr/bin/env node
/** The command `dawnlm` as an older Node can read it: finds a Node that runs TypeScript, then it is bin/dawnlm.ts. */

import { fileURLToPath } from "node:url";
import { become, findNode, NODE_NEEDED } from "../scripts/node.mjs";

const node = findNode(fileURLToPath(new URL("..", import.meta.url)));
if (node === process.execPath) {
  await import("./dawnlm.ts").catch((error) => {
    if (error.code !== "ERR_MODULE_NOT_FOUND" || !error.message.startsWith("Cannot find package")) throw error;
    console.error("the npm packages of dawnlm are missing or out of date: run `npm ci` in its folder.");
    process.exit(1);
  });
} else if (node !== null) {
  become(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)]);
} else {
  const way = "install a current Node, or run `npm ci` in its folder on Linux x64";
  console.error(`dawnlm needs ${NODE_NEEDED}, this is ${process.versions.node}: ${way}.`);
  process.exit(1);
}
