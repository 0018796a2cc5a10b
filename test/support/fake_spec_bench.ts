/** bench/run.ts as a process of its own with a stand-in for a model that speculates; FAKE holds its options as JSON. */
import { guardProcess } from "../../bench/core/cli.ts";
import { main } from "../../bench/core/run.ts";
import { fakeEngine } from "./fake_engine.ts";
import { fakeSpecLoad } from "./fake_spec.ts";

guardProcess();
process.exitCode = await main(process.argv.slice(2), fakeEngine(fakeSpecLoad(JSON.parse(process.env["FAKE"] ?? "{}"))));
