/** How a command starts, whichever Node reads it first: under one that runs TypeScript. */

import { dirname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { become, findNode, NODE_NEEDED } from "./node.mjs";

/** Import `module` and return it if this Node can, else run `command` again under one that can. Both are paths. */
export async function enter(command, module) {
  const node = findNode(dirname(fileURLToPath(new URL(".", import.meta.url))));
  if (node === null) {
    const way = "install a current Node, or run `npm ci` in its folder on Linux x64";
    console.error(`dawnlm needs ${NODE_NEEDED}, this is ${process.versions.node}: ${way}.`);
    process.exit(1);
  }
  if (node !== process.execPath) return become(node, [command, ...process.argv.slice(2)]);
  return import(pathToFileURL(module).href).catch((error) => {
    if (error.code !== "ERR_MODULE_NOT_FOUND" || !error.message.startsWith("Cannot find package")) throw error;
    console.error("the npm packages of dawnlm are missing or out of date: run `npm ci` in its folder.");
    process.exit(1);
  });
}
