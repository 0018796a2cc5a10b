/** embed against its twin: every weight format, over a table in parts. */

import { test } from "uvu";
import { batchWords, layOutBatch } from "../../kernels/batch.ts";
import { embed } from "../../kernels/embed.ts";
import * as twin from "../../kernels/reference/linear.ts";
import { dispatch, FORMATS, near, numbers, openFamilies, put, rounded, takeF32 } from "../support/gpu.ts";
import { weightOf } from "../support/weights.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

for (const gpu of gpus) {
  for (const format of FORMATS) {
    test(`embed, ${gpu.family}: ${format}, a table in two parts, tokens at their edges`, async () => {
      const [K, V] = [72, 130];
      const gate = numbers(V * K, 5).map((value) => rounded(value, format));
      const ids = [0, 63, 64, 129, 64, 7, 128];
      const before = numbers(8 * K, 6);
      const table = await weightOf(gpu, { gate, columns: K, format, firstPart: 64 });
      const x = await put(gpu, [8, K], before, "f32", "x");
      const { words } = layOutBatch(8, ids.map((id) => ({ id, position: 0, sequence: 0, offset: 0 })), 1, []);
      const batch = { tensor: await put(gpu, [batchWords(8)], words, "u32"), rows: 8 };
      await dispatch(gpu, (recorder) => embed(recorder, { batch, table, x }), { rows: ids.length });
      // A copy: exact; and the row past the step is left alone.
      near(await takeF32(gpu, x), [...twin.embed(gate, K, ids), ...before.subarray(ids.length * K)], {}, "embed", K);
    });
  }
}

test.run();
