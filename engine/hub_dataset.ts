/**
 * Files of a data set on the hub, from the standard cache or downloaded into it as models are (hub.ts): a folder of the repository whose
 * files have numbers, `test-00000-of-00002.parquet`, so that the cache can tell by itself whether it has them all.
 */

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { ModelFileError } from "./errors.ts";
import { cachedCommit, isCommit, repoCache } from "./hub_cache.ts";
import type { DownloadProgress } from "./hub_download.ts";
import type { HubSettings } from "./hub_http.ts";

export interface DatasetFiles {
  readonly repo: string;
  /** Branch, tag or commit. */
  readonly revision: string;
  readonly folder: string;
  readonly split: "train" | "validation" | "test";
}

/** Paths of the split's parquet files in order, and the commit they are of. Throws ModelFileError, UsageError (disk) or AbortedError. */
export async function resolveDataset(
  settings: HubSettings, wanted: DatasetFiles,
  options: { onProgress?: ((progress: DownloadProgress) => void) | undefined; signal?: AbortSignal | undefined } = {},
): Promise<{ paths: string[]; revision: string }> {
  const { repo, revision, folder, split } = wanted;
  const cache = repoCache(settings.cacheDir, repo, "dataset");
  const partsAt = async (commit: string): Promise<string[] | null> => {
    const place = join(cache.snapshot(commit), folder);
    const names = (await readdir(place).catch((): string[] => [])).filter((name) => partName(split).test(name)).sort();
    const count = Number(partName(split).exec(names[0] ?? "")?.groups?.["count"] ?? NaN);
    return names.length === count ? names.map((name) => join(place, name)) : null;
  };
  const cached = await cachedCommit(cache, revision);
  const found = cached === undefined ? null : await partsAt(cached);
  if (cached !== undefined && found !== null) return { paths: found, revision: cached };
  if (settings.offline) throw new ModelFileError(`${repo}: HF_HUB_OFFLINE is set and the cache ${settings.cacheDir} has no ${folder}/${split} of it`);
  const { downloadSnapshot, lookUpCommit } = await import("./hub_download.ts");
  const subject = { repo, revision, dataset: { folder }, signal: options.signal };
  const commit = isCommit(revision) ? revision : await lookUpCommit(settings, subject);
  await downloadSnapshot(settings, subject, commit, options.onProgress, new RegExp(`/${partName(split).source.slice(1)}`));
  const paths = await partsAt(commit);
  if (paths === null) throw new ModelFileError(`${repo}: ${folder} has no whole set of ${split}-NNNNN-of-NNNNN.parquet at commit ${commit}`);
  return { paths, revision: commit };
}

/** As the hub numbers the parts of a split; some have a hash behind: `test-00000-of-00001-29a571947c0b5ccc.parquet`. */
function partName(split: DatasetFiles["split"]): RegExp {
  return new RegExp(`^${split}-\\d{5}-of-(?<count>\\d{5})(?:-[0-9a-f]+)?\\.parquet$`);
}
