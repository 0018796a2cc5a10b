/**
 * `npm run docs`: the API reference, docs/api, from the docstrings behind index.ts; typedoc.json says how. Anything that typedoc warns
 * of fails the command, so that what is referenced is exported and what is linked exists.
 */

import { fileURLToPath } from "node:url";
import { Application, TypeDocReader } from "typedoc";
import ts from "typescript";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** @typedef {{ readonly application: Application, readonly project: import("typedoc").ProjectReflection | undefined }} Converted */

/**
 * index.ts, or another `entry`, as typedoc understands it, checked by its own rules; problems are counted in `application.logger`. Only what
 * the entry imports is compiled, with the options of tsconfig.json; type errors are looked for where `typecheck` is true. `logger`: instead
 * of the terminal.
 * @param {{ entry?: string, typecheck?: boolean, logger?: import("typedoc").Logger }} [options]
 * @returns {Promise<Converted>}
 */
export async function convert({ entry = `${ROOT}index.ts`, typecheck = false, logger } = {}) {
  const application = await Application.bootstrap({
    options: `${ROOT}typedoc.json`, entryPoints: [entry], skipErrorChecking: !typecheck,
  }, [new TypeDocReader()]);
  if (logger !== undefined) application.logger = logger;
  const { config } = ts.readConfigFile(`${ROOT}tsconfig.json`, ts.sys.readFile);
  const parsed = ts.parseJsonConfigFileContent({ ...config, include: [], files: [entry] }, ts.sys, ROOT);
  application.options.setCompilerOptions(parsed.fileNames, parsed.options, undefined);
  const project = await application.convert();
  if (project !== undefined) application.validate(project);
  return { application, project };
}

/** Write docs/api; the exit code. */
async function main() {
  const { application, project } = await convert({ typecheck: true });
  const { logger } = application;
  if (project === undefined || logger.hasErrors() || logger.hasWarnings()) return 1;
  await application.generateOutputs(project);
  return logger.hasErrors() ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main();
