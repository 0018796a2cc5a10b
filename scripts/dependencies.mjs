/** The npm packages: are the ones in node_modules those of package-lock.json, and if not, bring them. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Packages of the lockfile that node_modules lacks or has in another version. Optional ones may be missing: they belong to other
 * platforms. Versions are compared, not times, since copying and checking out set times as they like.
 */
export function missingPackages(root) {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  return Object.entries(packages)
    .filter(([path, { optional, version }]) => path !== "" && !optional && installedVersion(join(root, path)) !== version)
    .map(([path]) => path.replace(/^.*node_modules\//, ""));
}

function installedVersion(folder) {
  try {
    return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).version;
  } catch {
    return undefined;
  }
}

/** The command that installs exactly what the lockfile says: by the npm that runs us when there is one, else by the one in PATH. */
export function installCommand() {
  const flags = ["ci", "--include=dev", "--include=optional", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"];
  const npm = process.env.npm_execpath ?? "";
  return /npm-cli\.c?js$/.test(npm) ? [process.execPath, npm, ...flags] : ["npm", ...flags];
}
