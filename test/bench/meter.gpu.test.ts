/** A meter on the engine: it counts the very passes that the engine averages over, so what it takes apart comes out whole. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { CacheMeter } from "../../bench/core/meter.ts";
import { contiguousMax } from "../../techniques/paged_attention/index.ts";
import { folderOf, withModel } from "../support/llm.ts";

test("a workload of one sequence after one of two reserves one stretch in every pass", async () => {
  await withModel(folderOf("tiny-neox-draft"), { kvLayout: contiguousMax, maxModelLen: 64, maxSequences: 2 }, async (llm) => {
    const meter = new CacheMeter(llm);
    const options = { maxNewTokens: 6, ignoreEos: true };
    await llm.generateBatch([[5, 6, 7], [8, 9, 10, 11]], options);
    meter.start();
    await llm.generateBatch([[5, 6, 7]], options);
    assert.is(meter.stop(), 0);
    const { passes, meanReserved, peakReserved, peakRunning, meanRunning, meanLive } = meter.take();
    meter.close();
    const stretch = llm.config.layers * llm.config.kvHeads * 64;
    assert.equal([meanReserved, peakReserved, peakRunning, meanRunning], [stretch, stretch, 1, 1]);
    assert.ok(passes >= 6 && meanLive > 0 && meanLive <= stretch * 9 / 64, `${passes} passes, ${meanLive} live`);
  });
});

test.run();
