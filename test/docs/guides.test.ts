/**
 * The guides, without a GPU: the changes of those that add something fit the sources as they are today, one guide beside the other, and what
 * comes out passes the compiler, as do the examples of the others. guides.gpu.test.ts runs it.
 */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { applyDiff, follow, guides, node, stepsOf, stepsOfGuide, withCopy } from "./guide.ts";

test("a page's blocks are the fences that name a file", () => {
  const page = ["```ts", "not this", "```", "", "```ts file=a/b.ts", "one;", "", "two;", "```", "1. in a list", "",
    "   ```diff file=c.ts", "    same", "   +new", "   ```", ""].join("\n");
  assert.equal(stepsOf(page), [
    { kind: "file", path: "a/b.ts", text: "one;\n\ntwo;\n" }, { kind: "diff", path: "c.ts", text: " same\n+new\n" },
  ]);
});

test("a diff changes the one place that it fits, and says where it does not", () => {
  const source = "first\nsame\nlast\nsame\n";
  assert.is(applyDiff(source, " first\n-same\n+other\n+$& more\n@@\n last\n+end\n", "f"), "first\nother\n$& more\nlast\nend\nsame\n");
  assert.throws(() => applyDiff(source, "-same\n", "f.ts"), /f\.ts: 2 places, not one, for\nsame/);
  assert.throws(() => applyDiff(source, " first\n-last\n", "f.ts"), /0 places/);
  assert.throws(() => applyDiff(source, "+alone\n", "f.ts"), /for/);
  assert.throws(() => applyDiff(source, "first\n", "f.ts"), /begins with a space, \+ or -/);
});

test("every guide can be followed, one beside the other, and the compiler agrees", async () => {
  await withCopy(async (root) => {
    const added: string[] = [];
    for (const name of guides()) {
      const steps = await stepsOfGuide(name);
      await follow(steps, root);
      added.push(...steps.map(({ path }) => path).filter((path) => path.endsWith(".ts")));
    }
    // What the guides add and change, and what must know every format.
    const files = [...new Set(["index.ts", "bench/core/schema.ts", ...added])];
    await writeFile(join(root, "tsconfig.guides.json"), JSON.stringify({ extends: "./tsconfig.json", include: [], files }));
    const { code, output } = await node(root, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.guides.json"]);
    assert.is(code, 0, output);
  });
});

test.run();
