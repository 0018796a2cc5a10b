/** Lengths that are drawn: of the shape they claim, within the context, and the same for the same seed. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DISTRIBUTIONS, drawLengths, LOG_NORMAL } from "../../bench/core/lengths.ts";

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

test("every request has at least a token in and out and fits the context, however short that is", () => {
  for (const name of DISTRIBUTIONS) {
    for (const context of [2, 3, 64, 2048]) {
      for (const { prompt, output } of drawLengths(name, 300, context, 1)) {
        assert.ok(Number.isInteger(prompt) && Number.isInteger(output) && prompt >= 1 && output >= 1 && prompt + output <= context, `${name}: ${prompt} + ${output} of ${context}`);
      }
    }
  }
});

test("the same seed draws the same, another seed something else; fewer are the first of more", () => {
  for (const name of DISTRIBUTIONS) {
    assert.equal(drawLengths(name, 20, 1024, 7), drawLengths(name, 40, 1024, 7).slice(0, 20));
    if (name !== "constant") assert.not.equal(drawLengths(name, 20, 1024, 7), drawLengths(name, 20, 1024, 8));
  }
});

test("log-normal lengths have the paper's means at the paper's context", () => {
  // The tail beyond 2048 is drawn again, which lowers ShareGPT's means a little; Alpaca has no such tail.
  for (const [name, tolerance] of [["alpaca", 0.03], ["sharegpt", 0.15]] as const) {
    const drawn = drawLengths(name, 20_000, 2048, 3);
    for (const part of ["prompt", "output"] as const) {
      const [is, wanted] = [mean(drawn.map((one) => one[part])), LOG_NORMAL[name][part].mean];
      assert.ok(Math.abs(is / wanted - 1) < tolerance && is < wanted * 1.03, `${name} ${part}: ${is}, not ${wanted}`);
      const logs = drawn.map((one) => Math.log(one[part]));
      const middle = mean(logs), spread = Math.sqrt(mean(logs.map((log) => (log - middle) ** 2)));
      assert.ok(Math.abs(spread - LOG_NORMAL[name][part].sigma) < 0.12, `${name} ${part}: σ ${spread}`);
    }
  }
});

test("they scale with the context", () => {
  const [at512, at2048] = [512, 2048].map((context) => mean(drawLengths("alpaca", 5000, context, 3).map(({ output }) => output)));
  assert.ok(Math.abs(at2048! / at512! - 4) < 0.2);
});

test("uniform covers the halves evenly, constant takes a quarter in all", () => {
  const drawn = drawLengths("uniform", 5000, 1000, 5);
  for (const part of ["prompt", "output"] as const) {
    const values = drawn.map((one) => one[part]);
    assert.ok(Math.min(...values) < 5 && Math.max(...values) > 495 && Math.max(...values) <= 500 && Math.abs(mean(values) - 250.5) < 8);
  }
  assert.equal(drawLengths("constant", 2, 1024, 0), [{ prompt: 128, output: 128 }, { prompt: 128, output: 128 }]);
});

test.run();
