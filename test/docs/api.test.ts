/**
 * The API reference can be written: typedoc has nothing to warn of, which means that every type that the public surface speaks of is
 * exported too, and every export of index.ts says what it is.
 */

import { fileURLToPath } from "node:url";
import { Logger, LogLevel, type DeclarationReflection, type ProjectReflection } from "typedoc";
import { test } from "uvu";
import * as assert from "uvu/assert";

const { convert } = await import(new URL("../../scripts/api_docs.mjs", import.meta.url).href) as {
  convert(options: { entry?: string; typecheck?: boolean; logger?: Logger }): Promise<{ readonly project: ProjectReflection | undefined }>;
};

class Collected extends Logger {
  readonly problems: string[] = [];

  override log(message: string, level: LogLevel): void {
    super.log(message, level);
    if (level >= LogLevel.Warn) this.problems.push(message);
  }
}

/** Problems that typedoc has with an entry point, and its exports without a word about them. */
async function judged(entry?: string): Promise<{ problems: readonly string[]; silent: string[]; exports: number }> {
  const logger = new Collected();
  const { project } = await convert({ logger, ...(entry !== undefined && { entry }) });
  const exported: readonly DeclarationReflection[] = project?.children ?? [];
  const silent = exported.filter((each) => !each.hasComment() && !(each.signatures ?? []).some((signature) => signature.hasComment()));
  return { problems: logger.problems, silent: silent.map(({ name }) => name), exports: exported.length };
}

test("index.ts: nothing to warn of, and every export is documented", async () => {
  const { problems, silent, exports } = await judged();
  assert.equal(problems, []);
  assert.equal(silent, []);
  assert.ok(exports > 40, `${exports} exports`);
});

test("what is referenced and not exported, and what says nothing, would be seen", async () => {
  const { problems, silent } = await judged(fileURLToPath(new URL("unexported.ts", import.meta.url)));
  assert.ok(problems.some((problem) => /^Hidden\b.*referenced by find/.test(problem)), problems.join("\n"));
  assert.equal(silent, ["find"]);
});

test.run();
