/** bench/run.ts as a process of its own with a stand-in for a model that does everything at once; FAKE holds its options as JSON. */
import { guardProcess } from "../../bench/core/cli.ts";
import { main } from "../../bench/core/run.ts";
import { fakeCombosLoad } from "./fake_combos.ts";
import { fakeEngine } from "./fake_engine.ts";

guardProcess();
process.exitCode = await main(process.argv.slice(2), fakeEngine(fakeCombosLoad(JSON.parse(process.env["FAKE"] ?? "{}"))));
