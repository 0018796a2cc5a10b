/**
 * Number formats of the weights in the common shape. Other formats may write other texts: what an arm costs is how far its predictions are
 * from the first arm's. The first arm again must write the same.
 */

import { protocolName } from "../../../models/perplexity.ts";
import type { Words } from "../lang/en.ts";
import { bytes, percent } from "../metrics.ts";
import { chartSpec } from "../report/chart.ts";
import { wordsOf } from "../report/json.ts";
import { corpusInWords, divergenceRows, outlierNotes, weightsRows } from "../report/weights.ts";
import { chartInput } from "../report/weights_chart.ts";
import { weightsDetail, weightsStatusOf, type WeightsRun } from "../report/weights_json.ts";
import type { Picture, Proof, ResultArm, ResultBody, ResultQuality } from "../result.ts";
import type { ArmWeights } from "../weights/experiment.ts";
import { judgeRun, nameOf, perplexityChange, ratioInWords, resultOf } from "../weights/verdict.ts";
import {
  bare, captionOf, coldStartOf, differencesIn, factsIn, metricsIn, plainNotes, protocolIn, roleOf, standingNotes, struck, subjectOf,
  textsProof, uncheckedProof,
} from "./parts.ts";

export function weightsBody(run: WeightsRun): ResultBody {
  const words = wordsOf(run), { outcome, arms, corpus } = run.weights, { warmUp, yardstick, order } = outcome;
  const verdict = judgeRun(run.weights, words), status = weightsStatusOf(run);
  return {
    status, order, warmUp, yardstick, ...subjectOf(run, outcome, words),
    corpus: corpus === null ? null : { name: corpus.name, sha256: corpus.sha256 },
    arms: arms.map((arm, at): ResultArm => {
      const result = resultOf(run.weights, arm.name), role = roleOf(at, arm.name === "again");
      const pair = [verdict.control, ...verdict.pairs].find((one) => one?.to === arm.name && role !== "baseline");
      return {
        name: arm.name, group: "", role, settings: settingsOf(run, arm), invalid: struck(verdict.invalid, role, arms.length),
        engagement: role === "baseline" ? null : bare(verdict.engagement[at]!), proof: proofOf(run, arm, role, verdict.correctness, words),
        quality: qualityOf(run, arm, role, words), metrics: metricsIn(result), differences: differencesIn(pair?.changes ?? []),
        memory: result.memory.peak, facts: factsOf(arm, words), coldStart: coldStartOf(result.loadTimings, warmUp, arm.name),
      };
    }),
    notes: plainNotes([...standingNotes(outcome, status, verdict.invalid, words), ...notesOf(run, words)]),
    pictures: picturesOf(run, words), detail: weightsDetail(run),
  };
}

function settingsOf({ config }: WeightsRun, { name, asked }: ArmWeights): ResultArm["settings"] {
  const { quantization_config, quantize_to, weights } = config;
  const isFromConfig = name === "quantized" && quantize_to === undefined && quantization_config !== undefined;
  return { weights: asked ?? weights, ...(isFromConfig && { quantization_config }) };
}

function proofOf(
  { weights: { outcome, arms, corpus } }: WeightsRun, arm: ArmWeights, role: ResultArm["role"], correctness: string | null, words: Words,
): Proof | null {
  const { weights: say } = words, { quality } = arm;
  if (role === "baseline") return null;
  if (role === "control") return textsProof(outcome.identical, correctness!);
  if (quality === null) {
    const { missing, random, none } = say.quality;
    return uncheckedProof(corpus !== null ? missing.notMeasured : outcome.source.random ? random : none);
  }
  const { first } = quality;
  if (typeof first === "string") return first === "itself" ? null : { kind: "lossy", holds: null, text: say.quality.missing[first] };
  return { kind: "lossy", holds: true, text: ratioInWords(first, nameOf(arm, words), nameOf(arms[0]!, words), words) };
}

function qualityOf(
  { weights: { arms, corpus } }: WeightsRun, { quality }: ArmWeights, role: ResultArm["role"], words: Words,
): ResultQuality | null {
  if (quality === null || corpus === null) return null;
  const { perplexity: { value, standardError, tokens, windows }, first } = quality;
  // Stopped before the first arm had its turn, the first of those there are is not what the others were held against.
  const isAgainstFirst = role !== "baseline" && arms[0]!.quality?.first === "itself" && typeof first !== "string";
  return {
    perplexity: { value, error: standardError }, protocol: protocolIn(protocolName(corpus.options), corpus.name, tokens, windows, words),
    change: isAgainstFirst ? perplexityChange(first) : null,
    kld: isAgainstFirst ? { value: first.kld.value, error: first.kld.standardError } : null,
    sameTop: isAgainstFirst ? { value: first.topOne.value, error: first.topOne.standardError } : null,
  };
}

/** What is held in which format, and how the predictions lie to those of f32 where the first arm is another. */
function factsOf(arm: ArmWeights, words: Words): ResultArm["facts"] {
  const { quality } = arm;
  const isOther = quality !== null && typeof quality.f32 !== "string" && JSON.stringify(quality.f32) !== JSON.stringify(quality.first);
  const rows = [...weightsRows([arm], words), ...(isOther ? divergenceRows([arm], "f32", "f32", words) : [])];
  return factsIn(rows.map((row) => [row[0]!, row[1]]), words);
}

function notesOf({ weights: { arms, outcome, corpus, loading, notes } }: WeightsRun, words: Words): string[] {
  const { weights: say } = words, [first, ...others] = arms.filter(({ name }) => name !== "again");
  const saved = (arm: ArmWeights): string =>
    say.takes(nameOf(arm, words), bytes(arm.bytes), percent(arm.bytes / first!.bytes), nameOf(first!, words));
  return [
    ...(arms.length < 2 ? [] : [loading === "together" ? say.together : say.inTurn]), ...notes,
    ...others.map(saved), ...outlierNotes(arms, words).map((note) => note.replace(/^- /, "")),
    ...(corpus !== null ? [corpusInWords(corpus, words), say.qualityIs] : [outcome.source.random ? say.quality.random : say.quality.none]),
    ...(others.length === 0 ? [] : [say.lossy]),
  ];
}

/** Only where there is something to compare. */
function picturesOf(run: WeightsRun, words: Words): Picture[] {
  const { weights: { outcome }, config: { technique, batch_level, experiment_name, num_prompts } } = run, { weights: say } = words;
  if (outcome.arms.length < 2) return [];
  const isPrecision = technique === "precision";
  return [{
    id: `${isPrecision ? "precision" : "quantization"}_benchmark_2rows`,
    title: (isPrecision ? say.precision : say.comparison)(batch_level, experiment_name),
    caption: captionOf(outcome, num_prompts, outcome.arms[0]!.iterations.length, words), spec: chartSpec(chartInput(run)),
  }];
}
