/** bench/run.ts as a process of its own with a stand-in for the model; FAKE holds its options as JSON. */
import { guardProcess } from "../../bench/core/cli.ts";
import { main } from "../../bench/core/run.ts";
import { fakeEngine } from "./fake_engine.ts";
import { fakeLoad } from "./fake_llm.ts";

guardProcess();
process.exitCode = await main(process.argv.slice(2), fakeEngine(fakeLoad(JSON.parse(process.env["FAKE"] ?? "{}"))));
