/** Which adapter is taken, decided from names alone. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { chooseAdapter, type AdapterName } from "../../engine/adapters.ts";
import { GpuError, UsageError } from "../../engine/errors.ts";

const ADAPTERS: readonly AdapterName[] = [
  { backend: "vulkan", name: "llvmpipe (LLVM 19.1.7, 256 bits)", software: true },
  { backend: "vulkan", name: "NVIDIA H200", software: false },
  { backend: "vulkan", name: "AMD Radeon RX 7900", software: false },
];

test("a GPU is preferred; software, an index or part of a name in any case choose otherwise", () => {
  const chosen = (wanted: string | number): string => chooseAdapter(ADAPTERS, wanted).name;
  assert.is(chosen("auto"), "NVIDIA H200");
  assert.is(chosen("software"), ADAPTERS[0]!.name);
  assert.is(chosen(2), "AMD Radeon RX 7900");
  assert.is(chosen("2"), "AMD Radeon RX 7900");
  assert.is(chosen("radeon"), "AMD Radeon RX 7900");
  assert.is(chooseAdapter(ADAPTERS.slice(0, 1), "auto").name, ADAPTERS[0]!.name);
});

test("what matches nothing is the user's mistake, with the list; no adapter at all is the machine's, with the remedy", () => {
  for (const wanted of ["intel", 3, "7"]) {
    assert.throws(() => chooseAdapter(ADAPTERS, wanted), (error: Error) =>
      error instanceof UsageError && error.message.includes(`"${wanted}"`) && /1:? NVIDIA H200 \(vulkan\)/.test(error.message));
  }
  assert.throws(() => chooseAdapter(ADAPTERS.slice(1), "software"), (error: Error) => error instanceof UsageError);
  assert.throws(() => chooseAdapter([], "auto"), (error: Error) => error instanceof GpuError && /mesa-vulkan-drivers/.test(error.message));
});

test.run();
