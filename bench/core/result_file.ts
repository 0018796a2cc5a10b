/**
 * Reading a result back: by its file, or by the folder of its run. A file that is something else, was cut short or was edited is refused
 * with what it looks like and what to give instead; what passes has the shape that result.ts promises.
 */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { z } from "zod";
import { UsageError } from "../../engine/errors.ts";
import { sha256Of } from "./protocol.ts";
import { RESULT_KIND, RESULT_VERSION, type Result } from "./result.ts";

export const RESULT_FILE = "result.json",
  JOURNAL_FILE = "journal.jsonl";
const RUN_FILE = `results/TECHNIQUE/runs/RUN/${RESULT_FILE}`;
/** As many runs are named when a folder holds several. */
const MOST_NAMED = 3;

const text = z.string();
const texts = z.array(text);
const record = z.record(text, z.unknown());
const count = z.number().nonnegative();
const summary = z.object({
  median: z.number(), p10: z.number(), p90: z.number(), min: z.number(), max: z.number(), samples: z.array(z.number()),
});
const metric = z.object({
  unit: text, better: z.enum(["lower", "higher"]), samples: z.array(z.number().nullable()), summary: summary.nullable(),
  missing: text.optional(),
});
const change = z.object({
  median: z.number(), low: z.number(), high: z.number(), noise: z.number(), measurable: z.boolean(), tooFew: z.literal(true).optional(),
});
const measured = z.object({ value: z.number(), error: z.number().nullable() });
const quality = z.object({
  perplexity: measured, change: z.object({ percent: z.number(), error: z.number(), claimed: z.boolean() }).nullable(),
  kld: measured.nullable(), sameTop: measured.nullable(), protocol: text,
});
const arm = z.object({
  name: text, group: text, role: z.enum(["baseline", "control", "technique"]), settings: record, invalid: text.nullable(),
  engagement: text.nullable(),
  proof: z.object({ kind: z.enum(["lossless", "lossy", "unchecked"]), holds: z.boolean().nullable(), text }).nullable(),
  quality: quality.nullable(), metrics: z.record(text, metric), differences: z.record(text, change),
  memory: z.record(text, count).nullable(), facts: z.array(z.object({ label: text, value: text })),
  coldStart: z.object({ weightsMs: count, pipelinesMs: count, firstMs: count.nullable() }).nullable(),
});
const SHAPE = z.object({
  experiment: text,
  status: z.enum(["complete", "interrupted", "invalid"]),
  started: text,
  ended: text,
  resumed: texts,
  config: record,
  configFile: text,
  configOrigins: z.record(text, text),
  protocol: record,
  protocolSha256: text,
  machine: z.object({
    dawnlm: text, commit: text.nullable(), modified: z.boolean().nullable(), node: text, os: text, cpu: text, cores: count,
    memoryBytes: count, packages: z.record(text, text),
  }),
  arms: z.array(arm).min(1),
  order: z.array(texts),
  warmUp: z.object({ rounds: count, settled: z.boolean(), arms: z.record(text, z.array(count)) }).nullable(),
  yardstick: z.object({ work: text, yards: z.array(z.object({ computeMs: count, memoryMs: count, hostMs: count })) }).nullable(),
  model: z.object({ id: text, revision: text.nullable(), random: z.boolean(), fingerprint: text, maxModelLen: count }),
  environment: z.object({
    adapter: z.object({ vendor: text, architecture: text, device: text, description: text, backend: text, software: z.boolean() }),
    features: texts, limits: z.record(text, z.number()), kernelFamily: text, subgroupSize: count,
  }),
  prompts: z.object({ origin: text, sha256: text, texts }),
  corpus: z.object({ name: text, sha256: text.nullable() }).nullable(),
  notes: texts,
  pictures: z.array(z.object({ id: text, title: text, caption: text, spec: record })),
  detail: z.unknown(),
});

/** The result in a file, or in the folder of a run. Throws UsageError when there is none. */
export function readResult(path: string): Result {
  const file = fileOf(path);
  const raw = contentOf(file);
  const value = parsed(file, raw);
  const wrong = (reason: string): UsageError => new UsageError(`${file}: ${reason}`);
  if (value["kind"] !== RESULT_KIND) throw wrong(`is ${otherKind(value)}; give the ${RESULT_FILE} of a run: ${RUN_FILE}`);
  if (value["schemaVersion"] !== RESULT_VERSION) {
    throw wrong(
      `is a result of schema version ${String(value["schemaVersion"])}, this program reads version ${RESULT_VERSION}: run the experiment anew`,
    );
  }
  const { success, error } = SHAPE.safeParse(value);
  if (!success) {
    const { path: at, message } = error.issues[0]!;
    throw wrong(`is no complete result: ${at.join(".")}: ${message}; it was edited or damaged, run the experiment anew`);
  }
  const result = value as unknown as Result;
  if (sha256Of(result.protocol) !== result.protocolSha256) {
    throw wrong(
      "its protocol does not match protocolSha256: it was edited by hand, and what was run cannot be known; run the experiment anew",
    );
  }
  const names = result.arms.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw wrong(`has two arms named ${JSON.stringify(twice)}: it was edited by hand, run the experiment anew`);
  return result;
}

/** The file itself, or the one in a folder of a run. */
function fileOf(path: string): string {
  if (!statOf(path)) throw new UsageError(`${path}: no such file or folder; give the ${RESULT_FILE} of a run: ${RUN_FILE}`);
  if (!statOf(path)!.isDirectory()) return path;
  const file = join(path, RESULT_FILE);
  if (statOf(file)?.isFile() === true) return file;
  if (statOf(join(path, JOURNAL_FILE)) !== null) throw endedEarly(path, path);
  const runs = resultsUnder(path);
  throw new UsageError(
    `${path}: this folder holds no ${RESULT_FILE}; ` +
      (runs.length === 0 ? `give the folder of a run: ${RUN_FILE}` : `give the folder of one run, such as ${runs.join(", ")}`),
  );
}

function statOf(path: string): ReturnType<typeof statSync> | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}

/** Folders with a result, the newest first: in this folder, or in its `runs`. */
function resultsUnder(folder: string): string[] {
  const inside = (path: string): string[] => {
    try {
      return readdirSync(path)
        .map((name) => join(path, name))
        .filter((run) => statOf(join(run, RESULT_FILE))?.isFile() === true);
    } catch {
      return [];
    }
  };
  return [...inside(folder), ...inside(join(folder, "runs"))].sort().reverse().slice(0, MOST_NAMED);
}

function endedEarly(path: string, folder: string): UsageError {
  return new UsageError(
    `${path}: is the journal of a run that ended early and left no result; take it up with node bench/run.ts --resume ${folder}`,
  );
}

function contentOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`${file}: cannot be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`);
  }
}

function parsed(file: string, raw: string): Readonly<Record<string, unknown>> {
  const wrong = (reason: string, instead = `give the ${RESULT_FILE} of a run: ${RUN_FILE}`): UsageError =>
    new UsageError(`${file}: ${reason}; ${instead}`);
  const body = raw.trim();
  if (body === "") throw wrong("is empty");
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong("is JSON, but no result");
    if ("journalVersion" in value) throw endedEarly(file, folderOf(file));
    return value as Readonly<Record<string, unknown>>;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    if (/^\{"journalVersion":/.test(body)) throw endedEarly(file, folderOf(file));
    if (/^(<!doctype|<html)/i.test(body)) throw wrong("is a page to look at", `the result stands beside it, in ${RESULT_FILE}`);
    if (/\.md$/i.test(file) || /^#+ /.test(body)) throw wrong("is a Markdown report");
    if (body.startsWith("{") && (!body.endsWith("}") || isAtEnd(error as Error, body)))
      throw wrong(`breaks off in the middle, after ${raw.length} characters`, "copy it again, or run the experiment anew");
    throw wrong(`is not JSON (${(error as Error).message.split("\n")[0]!.slice(0, 120)})`);
  }
}

/** Whether the parser came to the end of the text and wanted more: it may end with a brace of its middle. */
function isAtEnd({ message }: Error, body: string): boolean {
  const [, position] = /at position (\d+)/.exec(message) ?? [];
  return position === undefined ? message.includes("Unexpected end") : Number(position) >= body.length;
}

/** Of a journal: where `--resume` looks for it. */
function folderOf(file: string): string {
  return basename(file) === JOURNAL_FILE ? join(file, "..") : file;
}

/** What JSON of ours it looks like. */
function otherKind(value: Readonly<Record<string, unknown>>): string {
  if (typeof value["$schema"] === "string" && value["$schema"].includes("vega")) return "the specification of a picture";
  if (typeof value["experiment"] === "string") return `a report of ${value["experiment"]}, not the result of its run`;
  return "JSON, but no result of dawnlm";
}
