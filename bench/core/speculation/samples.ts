/**
 * The texts that speculation is measured on: PG-19 and WikiText from the hub, or the bundled texts in their manner, which need no network.
 */

import type { DATASETS } from "../datasets/load.ts";
import type { ExperimentConfig } from "../schema.ts";

type Dataset = (typeof DATASETS)[number];

/** In the order of a report. */
export function datasetsOf(dataset: ExperimentConfig["dataset"]): readonly Dataset[] {
  if (dataset === "bundled") return ["pg19-sample", "wikitext-sample"];
  if (dataset === "hub") return ["pg19", "wikitext"];
  return typeof dataset === "string" ? [dataset] : dataset;
}

/** pg19-sample → pg19: as the sources name their pictures. */
export function pictureOf(dataset: string): string {
  return dataset.replace(/-sample$/, "");
}
