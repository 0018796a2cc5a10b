/** A measurement under presses as a table and sentences for the terminal, and as JSON for programs. */

import Table from "cli-table3";
import type { Environment, ModelSource } from "../../../index.ts";
import type { MemoryReport, PressReport } from "../../../models/options.ts";
import { meanOf, protocolName, type Mean } from "../../../models/perplexity.ts";
import type { Sample } from "../datasets/load.ts";
import type { Machine } from "../environment.ts";
import { finiteJson } from "../load/report.ts";
import { PLAIN } from "../report/terminal.ts";
import { CONTROL, NO_PRESS, type Arm } from "./press_arms.ts";
import type { Measured, Row } from "./press_measure.ts";
import type { PressConfig } from "./press_options.ts";
import type { Speed } from "./press_speed.ts";
import type { Summary } from "../stats.ts";
import { figure, percent, significant, withError } from "./report.ts";

const SCHEMA_VERSION = 1;
const PER_TOKEN = ["nlls", "klds", "sameTop", "hits"] as const;

export interface PressRun {
  readonly config: PressConfig;
  readonly measured: Measured;
  readonly sample: Sample;
  readonly tokens: number;
  /** What a user should know beside the figures. */
  readonly notes: readonly string[];
  readonly source: ModelSource;
  readonly environment: Environment;
  readonly memory: MemoryReport;
  readonly seconds: number;
  readonly machine: Machine;
  readonly started: string;
}

export const isInvalid = ({ measured }: Pick<PressRun, "measured">): boolean => measured.rows.some(({ invalid }) => invalid !== null);

export function pressText(run: PressRun): string {
  const { config, measured, sample, tokens, source, environment, notes, seconds } = run, { speed, plain } = measured;
  const title = sample.title === null ? "" : `, "${sample.title}"`, subset = sample.subset === null ? "" : ` ${sample.subset}`;
  return [
    `${source.id}: weights ${config.weights}, kv ${config.kv}, on ${environment.adapter.description}`,
    `text: ${sample.dataset}${subset}, document ${sample.index} of ${sample.documents}${title}, ${tokens} tokens, ` +
      `SHA-256 ${sample.sha256.slice(0, 16)}…`,
    ...(plain === null ? [] : [qualityLine(run, plain)]),
    ...(speed === null ? [] : [speedLine(run, speed)]),
    "", table(run), ...verdicts(measured.rows), ...[...notes, ...measured.notes, ...notesBeside(measured.rows)].map(
      (note) => `note: ${note}`),
    ...(source.random ? ["random weights: figures of quality mean nothing"] : []),
    ...(environment.adapter.software ? ["software adapter: a CPU, whose absolute speed says nothing about a GPU"] : []),
    `${seconds.toFixed(0)} s in all`,
  ].join("\n");
}

/** Why rows that kept as many entries may have freed different numbers of bytes. */
function notesBeside(rows: readonly Row[]): string[] {
  const wants = rows.flatMap(
    ({ arm: { press } }) => (press === null ? [] : [press.stages.some(({ needs }) => needs.norms === true || needs.attention === true)]));
  return wants.includes(true) && wants.includes(false)
    ? ["freed has in it what some presses want noted beside each entry (norms 4 bytes, attention 8), for all rows measured after the " +
    "first that wants it"] : [];
}

function qualityLine({ config, measured }: PressRun, { tokens, windows, ...plain }: NonNullable<Measured["plain"]>): string {
  const { applyPress } = config.quality!, of = measured.windowsOfText!;
  const counted = `${windows}${of > windows ? ` of ${of}` : ""} window${of === 1 ? "" : "s"}`;
  const scored = `quality: ${protocolName(plain)}: ${tokens} tokens in ${counted}`;
  if (applyPress) return `${scored}; PPL is under each press, behind it; ΔPPL, KLD and same top are against no press on the same tokens`;
  if (config.press === NO_PRESS) return scored;
  return `${scored}; PPL is the plain one, which no press took part in (--ppl-apply-press measures it under the presses)`;
}

/** With what chance alone does to the figure in the table. */
function speedLine({ config, measured }: PressRun, { promptTokens, again }: NonNullable<Measured["speed"]>): string {
  const { maxNewTokens, repetitions } = config.speed!, first = timedBy(config, measured.rows[0]!.speed!), second = timedBy(config, again);
  const noise = first === null || second === null ? ""
    : `; no press, run twice: ` +
      `medians ${percent(Math.abs(second.median / first.median - 1))} apart, ` +
      `repetitions ${percent(spreadOf(first, second))}: less between two rows says nothing`;
  const repeated = `${repetitions} repetition${repetitions === 1 ? "" : "s"} in drawn order`;
  return `speed: ${maxNewTokens} new tokens behind ${promptTokens}, medians of ${repeated}${noise}`;
}

/** How far repetitions of equal arms lay from each other. */
function spreadOf(...arms: readonly Summary[]): number {
  return Math.max(...arms.map(({ max }) => max)) / Math.min(...arms.map(({ min }) => min)) - 1;
}

function timedBy({ speed: asked }: PressConfig, { tokensPerSecond, decodeTokensPerSecond }: Speed): Summary | null {
  return asked?.decodeOnly === true ? decodeTokensPerSecond : tokensPerSecond;
}

function table({ config, measured }: PressRun): string {
  const { rows, plain } = measured, hasQuality = plain !== null, isPressed = config.quality?.applyPress === true,
    isTimed = config.speed !== null;
  const doubt = isInvalid({ measured });
  const head = ["press", "ratio", ...(hasQuality ? ["PPL"] : []), ...(isPressed ? ["ΔPPL", "KLD", "same top"] : []), "kept", "freed",
    ...(isTimed ? [config.speed!.decodeOnly ? "decode tok/s" : "tok/s", "TTFT ms", "press ms"] : []), ...(doubt ? [""] : [])];
  const lines = new Table({ ...PLAIN, head, colAligns: head.map((_, i) => (i === 0 || head[i] === "" ? "left" : "right")) });
  const own = plain === null ? null : meanOf(plain.nlls, plain.tokensPerWindow), perplexity = own === null ? null : Math.exp(own.mean);
  const plainText = own === null ? "–" : withError({ value: perplexity!, error: own.error === null ? null : perplexity! * own.error });
  for (const { arm, quality, speed, invalid } of rows) {
    const of = quality?.quality, isPlain = arm.press === null, report = quality?.result.press ?? speed?.press ?? null;
    const windows = quality?.result.press === undefined ? 1 : quality.result.windows;
    const ppl = of !== undefined ? withError(of.perplexity) : isPlain ? plainText : "–";
    const inWords = (figures: Summary | null | undefined): string => figures?.median.toFixed(1) ?? "–";
    const timed = speed && timedBy(config, speed);
    lines.push([
      arm.name, arm.ratio !== null ? String(arm.ratio) : isPlain || config.steps === null ? "" : `keep ${config.steps.keepRatio}`,
      ...(hasQuality ? [ppl] : []),
      ...(isPressed ? (of === undefined ? ["–", "–", "–"] : [signed(of.perplexity.value - perplexity!), figure(of.kld),
        percent(of.sameTop.mean)]) : []),
      isPlain ? "all" : report === null || report.seen === 0 ? "–"
        : `${percent(keptMean(report) / report.seen)} of ${Math.round(report.seen)}`,
      isPlain || report === null ? "–" : sizeText(report.freedBytes / windows),
      ...(isTimed ? [timed, speed?.ttft, speed?.pressMs].map(inWords) : []),
      ...(doubt ? [invalid === null ? "" : "INVALID"] : []),
    ]);
  }
  return lines.toString();
}

/** What does not count, and which presses are better than chance; each press by its own line of reasoning, none left out. */
function verdicts(rows: readonly Row[]): string[] {
  const labelOf = ({ name, ratio }: Arm): string => (ratio === null ? name : `${name} ${ratio}`);
  const lines = rows.flatMap(({ arm, invalid }) => (invalid === null ? [] : [`INVALID ${labelOf(arm)}: ${invalid}`]));
  const compared = rows.filter((row): row is Row & { againstRandom: Mean } => row.againstRandom !== null && row.invalid === null);
  if (compared.length === 0) return lines;
  const noiseOf = ({ error, errorOverWindows }: Mean): string =>
    (errorOverWindows === null ? `${error === null ? "?" : significant(error)} over tokens` : significant(errorOverWindows));
  const said = (of: typeof compared): string =>
    of.map(({ arm, againstRandom }) => `${labelOf(arm)} (${signed(againstRandom.mean)} ± ${noiseOf(againstRandom)})`).join(", ");
  const groups = Map.groupBy(compared, ({ againstRandom }) => verdictOf(againstRandom));
  const sentence = (verdict: Verdict, words: string): string[] => (groups.has(verdict) ? [`${words}: ${said(groups.get(verdict)!)}`] : []);
  return [
    ...lines,
    `against ${CONTROL}, which evicts by chance (−log p less that of ${CONTROL}, nats per token, with its standard error over windows; ` +
      `less is better):`,
    ...sentence("worse", "  did NOT beat it, and did worse"), ...sentence("open", "  did NOT beat it beyond two standard errors"),
    ...sentence("beat", "  beat it"),
  ];
}

export type Verdict = "beat" | "open" | "worse";

/** By two standard errors over windows, or over tokens where there is one window; a single token says nothing. */
export function verdictOf({ mean, error, errorOverWindows }: Mean): Verdict {
  const noise = errorOverWindows ?? error;
  if (noise === null || Math.abs(mean) <= 2 * noise) return "open";
  return mean < 0 ? "beat" : "worse";
}

const keptMean = ({ kept }: PressReport): number => {
  const all = kept.flat();
  return all.reduce((sum, count) => sum + count, 0) / all.length;
};

const signed = (value: number): string => `${value < 0 ? "−" : "+"}${significant(Math.abs(value))}`;

function sizeText(bytes: number): string {
  return Math.abs(bytes) >= 2 ** 20 ? `${(bytes / 2 ** 20).toFixed(2)} MiB` : `${(bytes / 2 ** 10).toFixed(1)} KiB`;
}

export function pressJson(run: PressRun): string {
  const { config, measured, sample, tokens, notes, ...rest } = run, { plain } = measured, { text: _, ...corpus } = sample;
  return finiteJson({
    schemaVersion: SCHEMA_VERSION, experiment: "perplexity-under-presses", status: isInvalid(run) ? "invalid" : "complete", config,
    corpus: { ...corpus, tokens },
    protocol: plain && { name: protocolName(plain), protocol: plain.protocol, context: plain.context, stride: plain.stride,
      underPress: config.quality!.applyPress },
    noPress: plain && {
      tokens: plain.tokens, windows: plain.windows, windowsOfText: measured.windowsOfText, tokensPerWindow: plain.tokensPerWindow,
      meanNll: meanOf(plain.nlls, plain.tokensPerWindow), perplexity: Math.exp(meanOf(plain.nlls, plain.tokensPerWindow).mean),
      nlls: Array.from(plain.nlls),
    },
    rows: measured.rows.map(({ arm, invalid, engaged, quality, speed, againstRandom }) => ({
      press: arm.name, ratio: arm.ratio, spec: arm.spec, name: arm.press?.name ?? null, positions: arm.press?.positions ?? null,
      status: invalid === null ? "complete" : "invalid", invalid, engaged,
      quality: quality && {
        ...quality.quality, press: quality.result.press ?? null, freedBytesPerWindow: (quality.result.press?.freedBytes ?? 0)
          / quality.result.windows,
        perToken: Object.fromEntries(PER_TOKEN.map((name) => [name, Array.from(quality.result[name])])),
      },
      againstRandom: againstRandom && { ...againstRandom, verdict: verdictOf(againstRandom) }, speed,
    })),
    speed: measured.speed, notes: [...notes, ...measured.notes], ...rest,
  });
}
