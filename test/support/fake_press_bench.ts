/** bench/run.ts as a process of its own with a stand-in for a model that runs presses; FAKE holds its options as JSON. */
import { guardProcess } from "../../bench/core/cli.ts";
import { main } from "../../bench/core/run.ts";
import { fakeEngine } from "./fake_engine.ts";
import { fakePressLoad } from "./fake_press.ts";

guardProcess();
process.exitCode = await main(process.argv.slice(2), fakeEngine(fakePressLoad(JSON.parse(process.env["FAKE"] ?? "{}"))));
