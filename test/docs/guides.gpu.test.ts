/**
 * The guides "how to add …", followed: their code goes into a copy of the sources, word for word, and the test that each of them ends with
 * runs there. GPU-free checks of the same pages are in guides.test.ts.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { follow, node, stepsOfGuide, withCopy } from "./guide.ts";

for (const name of ["add_a_press", "add_a_weight_format", "add_a_model"]) {
  test(`${name}: what the page says can be done, and its test passes`, async () => {
    const steps = await stepsOfGuide(name);
    const tests = steps.map(({ path }) => path).filter((path) => path.endsWith(".test.ts"));
    assert.is(tests.length, 1, "a guide ends with a test");
    await withCopy(async (root) => {
      await follow(steps, root);
      const { code, output } = await node(root, [tests[0]!]);
      assert.is(code, 0, output);
      assert.match(output, /Passed: +[1-9]/);
    });
  });
}

test.run();
