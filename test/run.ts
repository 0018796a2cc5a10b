/**
 * `npm test`: runs the test files under this folder, three at a time, and ends with the line `N passed, N failed, N skipped`; the exit code
 * is 1 when anything failed, 2 for wrong arguments. Files that use the GPU (`*.gpu.test.ts`) come last, in processes and with devices of
 * their own; on the software adapter most of their time goes into compiling shaders, which takes one core each.
 *
 *   node test/run.ts [FILTER …]     files whose path contains one of the filters; all without any
 *     --list                        print the files instead of running them
 *     --timeout SECONDS             for each file, 480 by default
 *     --folder FOLDER               another folder of tests
 */

import { parseArgs } from "node:util";
import { type FileResult, findTests, inParallel, killAll, runFile } from "./support/runner.ts";

const AT_A_TIME = 3;

const options = {
  list: { type: "boolean" },
  timeout: { type: "string", default: "480" },
  folder: { type: "string", default: import.meta.dirname },
} as const;

function readArguments() {
  try {
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    if (!(Number(values.timeout) > 0)) throw new Error(`--timeout takes a number of seconds, not "${values.timeout}"`);
    return { ...values, timeout: Number(values.timeout), filters: positionals };
  } catch (error) {
    console.error(`${(error as Error).message}\nusage: node test/run.ts [FILTER …] [--list] [--timeout SECONDS] [--folder FOLDER]`);
    process.exit(2);
  }
}

function describe({ file, passed, failed, skipped, skippedNames, seconds, fault, output }: FileResult): string {
  const counts = [`${passed} passed`, failed > 0 && `${failed} failed`, skipped > 0 && `${skipped} skipped`].filter(Boolean).join(", ");
  const headline = `${failed > 0 ? "FAIL" : "ok  "} ${file.padEnd(40)} ${counts}, ${seconds.toFixed(1)} s`;
  const lines = [fault === null ? headline : `${headline}: ${fault}`, ...skippedNames.map((name) => `     skipped: ${name}`)];
  if (failed > 0) lines.push(output.trimEnd().replaceAll(/^/gm, "     | "));
  return lines.join("\n");
}

const { list, timeout, folder, filters } = readArguments();
const files = findTests(folder, filters);
if (list) {
  for (const file of files) console.log(file);
  process.exit(0);
}

for (const [signal, number] of [["SIGINT", 2], ["SIGTERM", 15], ["SIGHUP", 1]] as const) {
  process.on(signal, () => {
    killAll();
    console.log("stopped before the tests were done");
    process.exit(128 + number);
  });
}

const sum = { passed: 0, failed: 0, skipped: 0 };
async function run(file: string): Promise<void> {
  const result = await runFile(folder, file, timeout);
  console.log(describe(result));
  for (const key of ["passed", "failed", "skipped"] as const) sum[key] += result[key];
}

const usesGpu = (file: string): boolean => file.endsWith(".gpu.test.ts");
await inParallel(files.filter((file) => !usesGpu(file)), AT_A_TIME, run);
await inParallel(files.filter(usesGpu).reverse(), AT_A_TIME, run); // the whole models first, which take longest

if (files.length === 0) console.log(`no test file${filters.length > 0 ? ` named like ${filters.join(", ")}` : ""} in ${folder}`);
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exitCode = files.length === 0 || sum.failed > 0 ? 1 : 0;
