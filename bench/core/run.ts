/**
 * `node bench/run.ts`: run an experiment and write its reports. Flags (flags.ts) and a YAML file (config.ts) say what to do, an experiment
 * (experiments.ts) does it, and what came out is kept: step by step in a journal while it runs, then as a result, a page and reports. A run
 * that ended early is taken up again with --resume, one that ended is repeated with --replay.
 */

import { join } from "node:path";
import { LLM } from "../../index.ts";
import { UsageError } from "../../engine/errors.ts";
import { Yardstick } from "../../engine/yardstick.ts";
import type { Load } from "./arms.ts";
import { EXIT_INTERRUPTED, interruptible, print, runCommand, startCommand, withoutControls } from "./cli.ts";
import { loadConfig, type LoadedConfig } from "./config.ts";
import { jsonSchema } from "./config_schema.ts";
import { machine } from "./environment.ts";
import { experimentOf, type Finished } from "./experiments.ts";
import { ResultsFolder } from "./files.ts";
import { program, requestOf } from "./flags.ts";
import { FileJournal, NO_JOURNAL, type Journal } from "./journal.ts";
import { LANGUAGES } from "./lang/words.ts";
import { progress } from "./load/progress.ts";
import { writePage } from "./page/write.ts";
import { choosePrompts, type Prompts } from "./prompts.ts";
import { protocolOf, sha256Of } from "./protocol.ts";
import { replayed } from "./replay.ts";
import { RESULT_KIND, RESULT_VERSION, type Result } from "./result.ts";
import { JOURNAL_FILE, readResult, RESULT_FILE } from "./result_file.ts";
import { RunFolder } from "./run_folder.ts";
import { versusText } from "./versus/report.ts";
import { versus } from "./versus/versus.ts";

const EXIT_FAILED_CELLS = 5;

/** What a run needs beside its config; tests give stand-ins. `yardstick` opens one on an adapter; null looks at no machine. */
export interface Engine {
  readonly load: Load;
  readonly yardstick: ((adapter: string | number) => Promise<Pick<Yardstick, "work" | "measure" | "close">>) | null;
  /** The page of a result with its pictures. */
  readonly page: typeof writePage;
}

const ENGINE: Engine = { load: (model, options) => LLM.load(model, options), yardstick: (adapter) => Yardstick.open({ adapter }), page: writePage };

/** What a journal begins with: enough to take the run up again. */
interface Header extends LoadedConfig { readonly started: string; readonly dawnlm: string; readonly commit: string | null }

interface Started extends LoadedConfig {
  readonly prompts: Prompts;
  readonly started: string;
  /** When it was taken up again, if it was. */
  readonly resumed: readonly string[];
  readonly folder: RunFolder | null;
  readonly journal: FileJournal | null;
}

function begin(loaded: LoadedConfig): Started {
  const { config } = loaded, prompts = choosePrompts(config), now = new Date(), started = now.toISOString();
  if (!config.save_results) return { ...loaded, prompts, started, resumed: [], folder: null, journal: null };
  const folder = RunFolder.create(config.output_dir, config.technique, `${config.experiment_name}-${config.batch_level}`, now);
  const { dawnlm, commit } = machine(), header: Header = { ...loaded, started, dawnlm, commit };
  try {
    const journal = FileJournal.create(folder.journal, header);
    journal.same("prompts_file", prompts.sha256);
    return { ...loaded, prompts, started, resumed: [], folder, journal };
  } catch (error) {
    folder.remove();
    throw error;
  }
}

/** Throws UsageError when nothing there can be taken up, or was begun by another program. */
function takeUp(path: string): Started {
  const folder = new RunFolder(path.endsWith(JOURNAL_FILE) ? join(path, "..") : path);
  if (!folder.hasJournal() && folder.hasResult()) throw new UsageError(`${path}: the run is complete; repeat it with --replay ${join(folder.path, RESULT_FILE)}`);
  if (folder.hasJournal()) folder.hold(); // before it is opened: of a run that goes on, the last line may not be whole yet
  try {
    return takenUp(path, folder, FileJournal.open(folder.journal));
  } catch (error) {
    folder.release();
    throw error;
  }
}

function takenUp(path: string, folder: RunFolder, journal: FileJournal): Started {
  const { started, dawnlm, commit, ...loaded } = journal.header as Header, own = machine();
  if (dawnlm !== own.dawnlm || commit !== own.commit) {
    const name = (version: string, at: string | null): string => (at === null ? version : `${version} at ${at.slice(0, 12)}`);
    throw new UsageError(`${path}: was begun by dawnlm ${name(dawnlm, commit)}, this is ${name(own.dawnlm, own.commit)}, and samples of both would be mixed: run the experiment anew`);
  }
  const prompts = choosePrompts(loaded.config);
  journal.same("prompts_file", prompts.sha256);
  return { ...loaded, prompts, started, resumed: journal.resumed(new Date().toISOString()), folder, journal };
}

/** Every model that is loaded, and where, must be the one it was when the run began. */
function watched(load: Load, journal: Journal, onStep: (label: string, done: number, total: number) => void): Load {
  return async (model, options) => {
    const llm = await load(model, {
      ...options, onProgress: ({ stage, label, loaded: done, total }) => { onStep(`${stage}: ${withoutControls(label)}`, done, total); },
    });
    try {
      journal.same(`the model ${model}`, llm.source);
      journal.same("the adapter", llm.environment.adapter);
    } catch (error) {
      await llm.close();
      throw error;
    }
    return llm;
  };
}

function resultOf({ body }: Finished, { config, file, origins, started, resumed }: Started): Result {
  const protocol = protocolOf(config, body);
  return {
    kind: RESULT_KIND, schemaVersion: RESULT_VERSION, experiment: config.technique, started, ended: new Date().toISOString(), resumed, config, configFile: file,
    configOrigins: origins, protocol, protocolSha256: sha256Of(protocol), machine: machine(), ...body,
  };
}

/** `result`: null when there was nothing to tell. */
async function execute(run: Started, { load, yardstick: open, page }: Engine, asJson: boolean): Promise<{ readonly code: number; readonly result: Result | null }> {
  const { config, file, origins, prompts, started, folder, journal } = run, bar = progress();
  let stick: Pick<Yardstick, "work" | "measure" | "close"> | null = null, isKept = false;
  try {
    bar.onStep(`loading ${config.model}`, 0, 1);
    stick = await open?.(config.adapter ?? config.device?.[0] ?? "auto") ?? null;
    const finished = await interruptible((signal) => experimentOf(config)(
      { config, configFile: file, origins, prompts, started }, watched(load, journal ?? NO_JOURNAL, bar.onStep),
      { signal, onStep: bar.onStep, ...(journal !== null && { journal }), ...(stick !== null && { yardstick: stick }) },
    ));
    bar.stop();
    if (finished === null) {
      process.stderr.write("dawnlm: interrupted before the first iteration was finished; no report was written\n");
      isKept = (journal?.samples ?? 0) > 0; // of an earlier run that this one took up
      if (isKept) process.stderr.write(`dawnlm: what was measured is kept; take it up again with: node bench/run.ts --resume ${folder!.path}\n`);
      return { code: EXIT_INTERRUPTED, result: null };
    }
    const result = resultOf(finished, run), words = LANGUAGES[config.lang];
    await print(`${asJson ? JSON.stringify(result, null, 2) : finished.summary}\n`); // first: a full disk must not take it along
    isKept = result.status === "interrupted";
    const paths = await write(result, finished, run, page);
    isKept = isKept && folder !== null;
    if (!asJson && paths.length > 0) process.stdout.write(`\n${words.reports}\n${paths.map((path) => `  ${path}`).join("\n")}\n`);
    if (isKept) process.stderr.write(`dawnlm: stopped early; take it up again with: node bench/run.ts --resume ${folder!.path}\n`);
    return { code: result.status === "interrupted" ? EXIT_INTERRUPTED : result.status === "invalid" ? EXIT_FAILED_CELLS : 0, result };
  } catch (error) {
    isKept = (journal?.samples ?? 0) > 0;
    if (isKept) process.stderr.write(`dawnlm: what was measured is kept; take it up again with: node bench/run.ts --resume ${folder!.path}\n`);
    throw error;
  } finally {
    bar.stop();
    stick?.close();
    journal?.close({ remove: !isKept });
    folder?.release();
    if (!isKept && folder !== null && !folder.hasResult()) folder.remove();
  }
}

/** The result, its page and pictures in the run's own folder; the reports of the sources beside those of other runs. Returns their paths. */
async function write(result: Result, { files }: Finished, { config, folder }: Started, page: Engine["page"]): Promise<string[]> {
  if (folder === null) return [];
  const own = folder.write([[RESULT_FILE, `${JSON.stringify(result)}\n`]]); // first: no picture may take it along
  own.push(...folder.write(await page(result, LANGUAGES[config.lang])).filter((path) => !path.includes("pictures/")));
  if (files.length === 0) return own;
  const shared = await ResultsFolder.whenFree(config.output_dir, config.technique);
  try {
    return [...own, ...shared.write(files)];
  } finally {
    shared.release();
  }
}

/** Returns the exit code. `engine`: in tests a stand-in, or a loader alone. */
export function main(argv: readonly string[], engine: Engine | Load = ENGINE): Promise<number> {
  const used: Engine = typeof engine === "function" ? { ...ENGINE, load: engine, yardstick: null } : engine;
  return runCommand(program(), argv, async (command) => {
    const flags = command.opts(), asJson = flags["json"] === true;
    if (flags["schema"] === true) {
      await print(`${JSON.stringify(jsonSchema(), null, 2)}\n`);
      return 0;
    }
    const given = command.options.map((option) => option.attributeName()).filter((name) => command.getOptionValueSource(name) === "cli");
    for (const alone of ["resume", "replay"] as const) {
      const beside = given.find((name) => ![alone, "json", "debug", ...(alone === "replay" ? ["outputDir"] : [])].includes(name));
      if (flags[alone] !== undefined && beside !== undefined) {
        throw new UsageError(`--${alone} takes everything from ${alone === "resume" ? "the run that it takes up" : "the result that it repeats"}: leave out --${beside.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
      }
    }
    if (flags["resume"] !== undefined) return (await execute(takeUp(flags["resume"] as string), used, asJson)).code;
    if (flags["replay"] === undefined) return (await execute(begin(loadConfig(requestOf(flags))), used, asJson)).code;
    const path = flags["replay"] as string, original = readResult(path);
    const run = begin(replayed(original, path, flags["outputDir"] as string | undefined)), { code, result } = await execute(run, used, asJson);
    if (!asJson && result !== null) {
      const sides = [{ path, result: original }, { path: run.folder!.path, result }] as const;
      await print(`\n${versusText(versus(original, result), ...sides, { words: LANGUAGES[result.config.lang], all: false })}\n`);
    }
    return code;
  });
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
