/**
 * A process that loads, uses and closes a model over and over, and prints as JSON its resident memory after each time and how many
 * devices were never collected. A process of its own, so that nothing but these models is measured:
 * `node --expose-gc load_cycles.ts FOLDER COUNT`.
 */

import { setTimeout } from "node:timers/promises";
import { LLM } from "../../index.ts";
import { withGpus } from "./llm.ts";

const [folder, count] = process.argv.slice(2);
const rss: number[] = [];
const devices: WeakRef<object>[] = [];
for (let i = 0; i < Number(count); i++) {
  await withGpus({}, async (gpus) => {
    const llm = await LLM.load(folder!, { maxModelLen: 256, maxSequences: 2, prefillChunk: 24 });
    await llm.generate([1, 2, 3], { maxNewTokens: 20, ignoreEos: true });
    await llm.logits([4, 5, 6]);
    await llm.close();
    devices.push(new WeakRef(gpus[0]!.device));
  });
  await setTimeout(1);
  globalThis.gc!();
  await setTimeout(1); // what is collected is freed in a later turn
  rss.push(process.memoryUsage.rss());
}
console.log(JSON.stringify({ rss, alive: devices.filter((device) => device.deref() !== undefined).length }));
