/** What the chart of a run shows. Its words are English in every language (chart.ts says why). */

import { protocolName } from "../../../models/perplexity.ts";
import { metricsOf } from "../metrics.ts";
import type { ArmWeights } from "../weights/experiment.ts";
import { formatOf, resultOf } from "../weights/verdict.ts";
import type { Bar, ChartInput, ChartRow } from "./chart.ts";
import type { WeightsRun } from "./weights_json.ts";

export function chartInput({ weights, config }: WeightsRun): ChartInput {
  const { arms, outcome, corpus, loading } = weights;
  const { source, environment: { adapter } } = outcome;
  const rows = arms.map((arm): ChartRow => {
    const result = resultOf(weights, arm.name), metrics = metricsOf(result);
    const bar = (key: string): Bar | null => {
      const summary = metrics.find((metric) => metric.key === key)?.summary;
      return summary == null ? null : { value: summary.median, low: summary.p10, high: summary.p90 };
    };
    const { quality } = arm;
    const twin = arm.name === "again" ? arms[0]!.quality : quality; // the same weights: its divergences are those of the first arm
    return {
      label: arm.name === "again" ? `${formatOf(arm)} again` : formatOf(arm), isControl: arm.name === "again",
      throughput: bar("output_tokens_per_s"), tpot: bar("tpot_ms"), ttft: bar("ttft_ms"),
      perplexity: quality?.perplexity.value ?? null, perplexityDelta: deltaOf(twin), memory: result.memory.peak.total, weights: result.memory.peak.weights,
    };
  });
  const text = corpus === null ? "no perplexity was measured"
    : `perplexity: ${corpus.name}, ${protocolName(corpus.options)}; errors of its differences are paired, token by token`;
  return {
    title: `Number formats of the weights: ${source.id}`, reference: "f32", rows,
    subtitle: [
      `${adapter.description}${adapter.software ? " (software adapter)" : ""}; batches of ${config.batch_size}, ${config.max_tokens} new tokens, ` +
        `${outcome.arms[0]!.iterations.length} iterations, ${loading === "together" ? "arms in turns within each" : "arms one after the other"}`,
      `bars: medians over iterations, with p10 to p90; pale: the first format again, whose distance from the first is noise`, text,
    ],
  };
}

function deltaOf(quality: ArmWeights["quality"]): Bar | null {
  if (quality === null) return null;
  if (quality.f32 === "itself") return { value: 0, low: 0, high: 0 };
  if (typeof quality.f32 === "string") return null;
  const { value, standardError } = quality.f32.ratio;
  return { value: 100 * (value - 1), low: 100 * (value - 1 - standardError), high: 100 * (value - 1 + standardError) };
}
