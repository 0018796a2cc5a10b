/**
 * Loaded before every test file by the runner. uvu counts skipped tests but forgets their names, so the test file's "uvu" is replaced by
 * this module: uvu, with a `skip` that prints the name on a line that starts with SKIPPED (see runner.ts).
 */

import { registerHooks } from "node:module";
import * as uvu from "uvu";
import { SKIPPED } from "./runner.ts";

registerHooks({
  resolve: (specifier, context, next) => specifier === "uvu" && context.parentURL !== import.meta.url
    ? { url: import.meta.url, shortCircuit: true }
    : next(specifier, context),
});

function naming<T>(test: uvu.Test<T>): uvu.Test<T> {
  const skip = test.skip;
  test.skip = (...args) => {
    process.stdout.write(`\n${SKIPPED}${String(args[0])}\n`);
    skip(...args);
  };
  return test;
}

export const test = naming(uvu.test);
export const suite = <T = uvu.Context>(title?: string, context?: T): uvu.Test<T> => naming(uvu.suite<T>(title, context));
