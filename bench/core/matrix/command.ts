/** `node bench/matrix.ts`: every two techniques together on the bundled models, as tables, as JSON, and as the document docs/composition.md. */

import { basename, dirname } from "node:path";
import { Command } from "commander";
import { LLM } from "../../../index.ts";
import { benchCommand, EXIT_INTERRUPTED, interruptible, print, runCommand, startCommand } from "../cli.ts";
import { loadSample } from "../datasets/load.ts";
import { machine } from "../environment.ts";
import { ResultsFolder } from "../files.ts";
import { once } from "../load/flags.ts";
import { progress } from "../load/progress.ts";
import { cellsOf, groupsOf, keyOf } from "./cells.ts";
import { compositionJson, compositionOf, hasBug, type TriedModel } from "./composition.ts";
import { matrixConfig, type MatrixConfig } from "./options.ts";
import { matrixDocument, matrixText } from "./render.ts";
import { runMatrix, type MatrixTools } from "./run.ts";
import { OUTCOMES, outcomesJson, readOutcomes } from "./store.ts";

const EXIT_BUG = 5;
/** Of the bundled novel: characters that are skipped (a title page and the like), and that hold every token which is read. */
const TEXT = { from: 3000, length: 6000 } as const;

function program(): Command {
  return benchCommand(new Command("node bench/matrix.ts")
    .description("Try every two values of different axes (weights, kv, press, layout, draft) together on the bundled models: ok, refused with a reason, " +
      "or a bug.\n" +
      "All of it takes 8 to 30 minutes a model on two cores; --axes tries less, --resume goes on. Exit code 5: there is a bug.")
    .option("--model <names>", "tiny-neox, tiny-qwen2, or both (default)", once)
    .option("--axes <names>", "two or more of weights, kv, press, layout, draft (default: all)", once)
    .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, or part of an adapter's name", once)
    .option("--resume", "take what an earlier run has saved, and try the rest")
    .option("--json", "print JSON instead of tables")
    .option("--write <file>", "also write the document, such as docs/composition.md, and its data beside it", once)
    .option("--output-dir <folder>", "where outcomes go (default: results)", once)
    .option("--no-save", "write no outcomes"));
}

/** Seconds that a combination takes on two cores, its share of loading and compiling included: free cores, and busy ones with a cold shader cache. */
const SECONDS_EACH = [0.8, 3] as const;

/** What is ahead, before any of it. */
function estimate(model: string, axes: MatrixConfig["axes"], done: ReadonlyMap<string, unknown>): string {
  const cells = cellsOf(axes), left = cells.filter((cell) => !done.has(keyOf(cell)));
  const [least, most] = SECONDS_EACH.map((seconds) => Math.ceil(left.length * seconds / 60));
  return `${model}: ${left.length} of ${cells.length} combinations to try, loads: ${groupsOf(left).length}, minutes on two cores: ${least} to ${most}\n`;
}

/** What stands in for LLM.load in tests. */
export type LoadTried = MatrixTools["load"];

async function execute(config: MatrixConfig, load: LoadTried): Promise<number> {
  const { text } = await loadSample({ dataset: "pg19-sample", subset: null, index: 0 });
  const here = machine(), bar = progress();
  const tried: TriedModel[] = [];
  let interrupted = false;
  try {
    for (const model of config.models) {
      if (interrupted) break;
      const { run, status } = await tryModel(model, config, text.slice(TEXT.from, TEXT.from + TEXT.length), here.commit, load, bar.onStep);
      tried.push(run);
      interrupted = status === "interrupted";
    }
  } finally {
    bar.stop();
  }
  if (interrupted) {
    process.stderr.write(`dawnlm: interrupted${config.save ? "; go on with --resume" : ""}\n`);
    return EXIT_INTERRUPTED;
  }
  const composition = compositionOf(tried, config.axes, here);
  await print(config.json ? compositionJson(composition) : matrixText(composition));
  if (config.write !== null) write(config.write, matrixDocument(composition), compositionJson(composition));
  return hasBug(composition) ? EXIT_BUG : 0;
}

async function tryModel(
  model: string, { axes, adapter, resume, outputDir, save }: MatrixConfig, text: string, commit: string | null, load: LoadTried,
  onStep: MatrixTools["onStep"],
): Promise<{ run: TriedModel; status: "complete" | "interrupted" }> {
  const folder = save ? ResultsFolder.open(outputDir, `matrix-${model}`) : null;
  try {
    const before: TriedModel = folder !== null && resume ? readOutcomes(folder.path, model, commit)
      : { model, adapter: null, seconds: 0, outcomes: new Map() };
    if (cellsOf(axes).some((cell) => !before.outcomes.has(keyOf(cell)))) process.stderr.write(estimate(model, axes, before.outcomes));
    const started = performance.now();
    const now = (run: Pick<TriedModel, "outcomes" | "adapter">): TriedModel => (
      { model, adapter: run.adapter ?? before.adapter, seconds: before.seconds + (performance.now() - started) / 1000, outcomes: run.outcomes }
    );
    const { status, ...run } = await interruptible((signal) => runMatrix(model, cellsOf(axes), { text, adapter, before: before.outcomes }, {
      load, signal, onStep, onGroup: (run) => { folder?.write([[OUTCOMES, outcomesJson(now(run), commit)]]); },
    }));
    return { run: now(run), status };
  } finally {
    folder?.release();
  }
}

/** Both or neither. */
function write(path: string, text: string, data: string): void {
  const folder = ResultsFolder.open(dirname(path), ".");
  try {
    folder.write([[basename(path), text], [basename(path).replace(/\.md$/, ".json"), data]]);
  } finally {
    folder.release();
  }
}

/** Returns the exit code. */
export function main(argv: readonly string[], load: LoadTried = (model, options) => LLM.load(model, options)): Promise<number> {
  return runCommand(program(), argv, (command) => execute(matrixConfig(command.opts()), load));
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
