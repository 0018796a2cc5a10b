/**
 * The rules of the house that a machine can hold: imports point down the floors and never up, WGSL files are plain WGSL and open with
 * what they do, and every weight and KV format is a slot file, so no kernel's name carries a format.
 */

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** From the ground up. index.ts and bin stand on all of them. */
const FLOORS = ["engine", "kernels", "models", "techniques", "bench"];

function files(folder: string, ending: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(ending)).map((name) => join(folder, name));
}

test("imports point down the floors", () => {
  const upward: string[] = [];
  for (const [height, floor] of FLOORS.entries()) {
    for (const file of files(floor, ".ts")) {
      for (const [, specifier] of readFileSync(join(ROOT, file), "utf8").matchAll(/\bfrom\s+"(\.[^"]+)"|\bimport\("(\.[^"]+)"\)/g)) {
        if (specifier === undefined) continue;
        const target = relative(ROOT, resolve(ROOT, dirname(file), specifier));
        const targetHeight = FLOORS.indexOf(target.split(/[\\/]/)[0]!);
        const allowed = targetHeight >= 0 ? targetHeight <= height : floor === "bench" && target === "index.ts";
        if (!allowed) upward.push(`${file} imports ${target}`);
      }
    }
  }
  assert.equal(upward, []);
});

test("WGSL files are plain WGSL and say what they do", () => {
  for (const floor of ["engine", "kernels"]) {
    for (const file of files(floor, ".wgsl")) {
      const text = readFileSync(join(ROOT, file), "utf8");
      assert.not.match(text, /\$\{|^\s*#/m, `${file}: specialise by prelude and slots, not by macros`);
      if (/\bfn main\b/.test(text)) assert.match(text, /^\/\/ /, `${file}: a kernel opens with what it computes`);
    }
  }
});

test("formats live in slots only", () => {
  const named = files("kernels", ".wgsl").filter((file) => /(f16|f32|bf16|int8|int4|nf4|fp4)/.test(file) && !/kernels[\\/](formats|kv)[\\/]/.test(file));
  assert.equal(named, []);
});

test.run();
