/** `dawnlm tune`: find the fastest kernel variants for a model on this device, and keep them for later runs. */

import type { TuneReport } from "../../kernels/tune.ts";
import { shapeKey } from "../../kernels/linear_variants.ts";
import { print } from "../../bench/core/cli.ts";
import { adapterInWords, checkedOptions, loadModel, type ModelFlags } from "../model_options.ts";

export interface TuneFlags extends Pick<ModelFlags, "model" | "revision" | "weights" | "adapter"> { readonly budget?: number; readonly json?: boolean }

/** Returns the exit code. */
export async function tune(flags: TuneFlags): Promise<number> {
  const reports: TuneReport[] = [];
  const budgetMs = flags.budget === undefined ? undefined : Math.round(flags.budget * 1000);
  const { load } = await checkedOptions({ ...flags, stop: [] }, { tune: { ...(budgetMs !== undefined && { budgetMs }), onReport: (report) => { reports.push(report); } } });
  const llm = await loadModel(flags.model, load);
  try {
    const [report] = reports as [TuneReport];
    await print(flags.json === true ? `${JSON.stringify({ model: llm.source, environment: llm.environment, ...report })}\n` : `${inWords(report)}\n`);
    process.stderr.write(`${adapterInWords(llm)}, ${report.seconds.toFixed(1)} s; ${report.file === null ? "nothing was kept" : `winners are kept in ${report.file}`}\n`);
    return 0;
  } finally {
    await llm.close();
  }
}

function inWords({ results, clock }: TuneReport): string {
  const rows = results.map(({ shape, winner, ms, staticMs, timed, rejected, cutShort }) => [
    shapeKey(shape), winner === null ? "none was right in time" : JSON.stringify(winner), ms === null ? "" : (1000 * ms).toFixed(1),
    staticMs === null ? "" : (1000 * staticMs).toFixed(1), ms === null || staticMs === null ? "" : (staticMs / ms).toFixed(2),
    `${timed}${cutShort ? ", cut short" : ""}${rejected.length > 0 ? `, ${rejected.length} rejected` : ""}`,
  ]);
  const header = ["product", "fastest", "µs", "rule's µs", "gain", "timed"];
  const widths = header.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string => cells.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd();
  return [line(header), ...rows.map(line), `Timed by ${clock === "timestamps" ? "the device's timestamps" : "the wall clock"}.`].join("\n");
}
