/** The part of `node bench/perplexity.ts` that measures presses: from its configuration to a table, a file and the exit code. */

import { basename, dirname } from "node:path";
import { AbortedError, UsageError } from "../../../engine/errors.ts";
import { resolveModel } from "../../../engine/hub.ts";
import { LLM, type LoadOptions } from "../../../index.ts";
import { configOf } from "../../../models/source.ts";
import { parsePress, pressOf, PRESS_NAMES, PRESS_TABLE, type PressSpec } from "../../../techniques/press/spec.ts";
import { EXIT_INTERRUPTED, interruptible, withoutControls } from "../cli.ts";
import { loadSample } from "../datasets/load.ts";
import { machine } from "../environment.ts";
import { ResultsFolder } from "../files.ts";
import { progress, type Progress } from "../load/progress.ts";
import { armsOf, type Arm, type PressNames } from "./press_arms.ts";
import { measure, type Pressable } from "./press_measure.ts";
import type { PressConfig } from "./press_options.ts";
import { isInvalid, pressJson, pressText, type PressRun } from "./press_report.ts";

export interface PressTools {
  readonly load: (model: string, options: LoadOptions) => Promise<Pressable>;
  readonly names: PressNames;
}

export const library: PressTools = {
  load: (model, options) => LLM.load(model, options),
  names: {
    all: PRESS_NAMES.filter((name) => Object.hasOwn(PRESS_TABLE[name].parameters, "ratio")), // the others need one inside
    parse: (text, ratio) => ({ ...parsePress(text, ratio) }), make: (spec) => pressOf(spec as unknown as PressSpec),
  },
};

export const EXIT_INVALID = 5;

/** Returns the exit code: 5 when a row is invalid. */
export async function executePresses(config: PressConfig, tools: PressTools): Promise<number> {
  const { arms, notes } = armsOf(config, tools.names);
  const { outputDir, json } = config;
  const place = json === null ? [outputDir, "perplexity", fileName(config)] as const : [dirname(json), ".", basename(json)] as const;
  const folder = ResultsFolder.open(place[0], place[1]);
  const bar = progress();
  try {
    const run = await interruptible((signal) => runPresses(config, arms, notes, tools, bar, signal));
    bar.stop();
    process.stdout.write(`${withoutControls(pressText(run))}\n`);
    const [path] = folder.write([[place[2], pressJson(run)]]);
    process.stdout.write(`\nReport: ${path}\n`);
    return isInvalid(run) ? EXIT_INVALID : 0;
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
    bar.stop();
    process.stderr.write("dawnlm: interrupted; nothing was measured to the end\n");
    return EXIT_INTERRUPTED;
  } finally {
    bar.stop();
    folder.release();
  }
}

async function runPresses(
  config: PressConfig, arms: readonly Arm[], armNotes: readonly string[], tools: PressTools, { onStep }: Progress, signal: AbortSignal,
): Promise<PressRun> {
  const started = new Date().toISOString(), from = performance.now();
  const sample = await loadSample(config.sample, { onProgress: onStep, signal });
  const { most, layersOf } = await modelOf(config.model);
  const notes = [...armNotes], limit = Math.min(config.contextLimit, most);
  for (const { press } of arms) press?.check(layersOf);
  if (limit < config.contextLimit)
    notes.push(`--context-limit ${config.contextLimit} is cut to ${limit}, the longest that ${config.model} allows`);
  const { weights, kv, kvMemory, adapter, speed } = config;
  if (speed !== null && speed.maxNewTokens >= limit) {
    throw new UsageError(`--max-new-tokens ${speed.maxNewTokens} leaves no prompt within the ${limit} tokens that ${config.model} allows`);
  }
  const llm = await tools.load(config.model, {
    weights, kv, adapter, prefixCache: false, maxModelLen: limit, ...(kvMemory !== null && { kvMemory }),
    onProgress: ({ stage, label, loaded, total }) => { onStep(`${stage}: ${label}`, loaded, total); },
  });
  try {
    const ids = await llm.tokenizer.encode(sample.text);
    const measured = await measure(llm, ids, config, arms, { signal, onStep });
    return {
      config, measured, sample, tokens: ids.length, notes, source: llm.source, environment: llm.environment, memory: llm.memory(),
      seconds: (performance.now() - from) / 1000, machine: machine(), started,
    };
  } finally {
    await llm.close();
  }
}

/** What a model's config says before it is loaded. */
async function modelOf(model: string): Promise<{ most: number; layersOf: Parameters<NonNullable<Arm["press"]>["check"]>[0] }> {
  const resolved = await resolveModel(model, { configOnly: true });
  const config = await configOf(resolved);
  return { most: config.maxPositions, layersOf: config };
}

function fileName({ model, sample, press, ratios, steps, quality }: PressConfig): string {
  const last = (path: string): string => path.split(/[\\/]/).findLast((part) => !/^\.*$/.test(part)) ?? "x";
  const parts = [
    "perplexity", last(model), last(sample.dataset), ...(sample.subset === null ? [] : [sample.subset]),
    ...(sample.index === 0 ? [] : [`document${sample.index}`]), press, ...(steps === null ? ratios === null ? [] : [ratios.join("-")]
      : [`keep${steps.keepRatio}-after${steps.pruneAfter}`]),
    ...(quality === null ? ["speed"] : [quality.applyPress ? quality.protocol : "plain"]),
  ];
  return `${parts.map((part) => part.replace(/[^\w.-]+/g, "-").replace(/-$/, "")).join("_").slice(0, 180)}.json`;
}
