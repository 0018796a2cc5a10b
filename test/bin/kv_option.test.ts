/** `--kv`: from text to the library's option. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { InvalidArgumentError } from "commander";
import { parseKv } from "../../bin/model_options.ts";

test("a format, a format in groups, or one each for keys and values", () => {
  assert.is(parseKv("int8"), "int8");
  assert.equal(parseKv("int4:20"), { format: "int4", group: 20 });
  assert.equal(parseKv("k=int8,v=int4:16"), { k: "int8", v: { format: "int4", group: 16 } });
  assert.is(parseKv("kivi4"), "kivi4");
  assert.equal(parseKv("k=kivi4,v=f16"), { k: "kivi4", v: "f16" });
  assert.equal(parseKv("k=f16,v=bf16"), { k: "f16", v: "bf16" });
});

test("what is none of them is refused with what there is", () => {
  for (const text of ["int9", "", "int4:", "int4:x", "int4:-8", "k=int8", "v=int4,k=int8", "k=int8,v=", "k=int8,v=int9", "int8,int4", "k=k=int8,v=int8"]) {
    assert.throws(() => parseKv(text), (error: Error) => error instanceof InvalidArgumentError && error.message.startsWith("Allowed choices are f32, f16, bf16, int8, int4, "));
  }
  assert.throws(() => parseKv("kivi4:32"), /kivi4 has no groups; int8 and int4 have/);
  assert.throws(() => parseKv("f16:8"), /f16 has no groups; int8 and int4 have/);
});

test.run();
