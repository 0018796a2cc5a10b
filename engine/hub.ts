/**
 * What a user means by a model: a folder, one of the bundled models, `random:NAME`, or a Hugging Face id that is taken from the standard
 * cache or downloaded into it. A hub model that is complete in the cache is used as it is, without asking the network, so that runs
 * repeat; a newer commit of a branch is fetched by naming it (`owner/name@COMMIT`) or by emptying the cache.
 */

import { stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ModelFileError, UsageError } from "./errors.ts";
import { cachedCommit, configFile, exists, isCommit, repoCache, snapshotState } from "./hub_cache.ts";
import type { DownloadProgress } from "./hub_download.ts";
import { type HubSettings, hubSettings } from "./hub_http.ts";
import { nearest } from "./nearest.ts";

export const bundledModels = ["tiny-neox", "tiny-neox-draft", "tiny-qwen2"] as const;

/** `revision` is the commit of a hub model, null for a folder and a bundled model. */
export type ResolvedModel =
  | { readonly kind: "folder"; readonly folder: string; readonly id: string; readonly revision: string | null }
  | { readonly kind: "random"; readonly name: string; readonly id: string };

export interface ResolveOptions {
  /** Branch, tag or commit of a hub model. Default: what stands after @ in the spec, else main. */
  revision?: string | undefined;
  /** Only config.json is wanted of a hub model: nothing else is downloaded, and the folder may hold nothing else. */
  configOnly?: boolean | undefined;
  onProgress?: ((progress: DownloadProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Finds a model by, in this order: an existing folder, a bundled name, `random:NAME` (whose name models/presets.ts knows), a hub id
 * `owner/name[@revision]`. Throws UsageError for anything else, ModelFileError when the hub or the cache cannot give it.
 */
export async function resolveModel(spec: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  const info = spec === "" ? undefined : await stat(spec).catch(() => undefined);
  const bundled = bundledModels.find((name) => name === spec);
  const random = /^random:(.*)$/s.exec(spec)?.[1];
  if (options.revision !== undefined && (info !== undefined || bundled !== undefined || random !== undefined)) {
    throw new UsageError(`revision "${options.revision}" has no meaning for "${spec}"; only models of the hub have revisions`);
  }
  if (info?.isDirectory()) return { kind: "folder", folder: resolve(spec), id: basename(resolve(spec)), revision: null };
  if (info !== undefined) throw new UsageError(`${spec} is a file; give the folder with config.json and the weights`);
  if (bundled !== undefined) {
    return { kind: "folder", folder: fileURLToPath(new URL(`../assets/models/${bundled}`, import.meta.url)), id: bundled, revision: null };
  }
  if (random !== undefined) {
    if (random === "") throw new UsageError("random: needs the name of an architecture after it, such as random:pythia-70m");
    return { kind: "random", name: random, id: `random:${random}` };
  }
  const hub = parseHubId(spec, options.revision);
  if (hub === undefined) throw unknownSpec(spec);
  return resolveHubModel(await hubSettings(), hub, options);
}

interface HubId { readonly repo: string; readonly revision: string }

function parseHubId(spec: string, revisionOption: string | undefined): HubId | undefined {
  const match = /^([A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*)(?:@(.+))?$/s.exec(spec);
  const repo = match?.[1];
  if (repo === undefined || repo.length > 96 || repo.includes("..") || repo.includes("--")) return undefined;
  const written = match?.[2];
  if (written !== undefined && revisionOption !== undefined && written !== revisionOption) {
    throw new UsageError(`${spec} names revision "${written}", but the option revision says "${revisionOption}"`);
  }
  const revision = written ?? revisionOption ?? "main";
  if (!/^[\w.-]+(?:\/[\w.-]+)*$/.test(revision) || revision.split("/").some((part) => /^\.+$/.test(part)) || revision.length > 200) {
    throw new UsageError(`"${revision}" is not a commit, branch or tag`);
  }
  return { repo, revision };
}

function unknownSpec(spec: string): UsageError {
  const looksLikePath = /^[.~/\\]|[\\]|\/.*\/|^[A-Za-z]:/.test(spec);
  const close = nearest(spec, bundledModels)[0];
  const hint = close === undefined ? "." : `; did you mean ${close}?`;
  const problem = looksLikePath ? `there is no folder ${spec}.` : `unknown model "${spec}"${hint}`;
  return new UsageError(`${problem} A model is a local folder, a bundled name (${bundledModels.join(", ")}), `
    + "random:NAME (random:pythia-70m), or a Hugging Face id owner/name[@revision]");
}

/** A hub model from the cache, or through the network into it. */
export async function resolveHubModel(settings: HubSettings, { repo, revision }: HubId, options: ResolveOptions): Promise<ResolvedModel> {
  const cache = repoCache(settings.cacheDir, repo);
  const found = (commit: string): ResolvedModel => ({ kind: "folder", folder: cache.snapshot(commit), id: repo, revision: commit });
  const cached = await cachedCommit(cache, revision);
  if (options.configOnly === true && cached !== undefined && await exists(join(cache.snapshot(cached), configFile))) return found(cached);
  const state = cached === undefined ? undefined : await snapshotState(cache, cached);
  if (cached !== undefined && state?.missing.length === 0 && (settings.offline || state.unknown.length === 0)) return found(cached);
  if (settings.offline) {
    const lack = state === undefined ? `nothing of ${revision}` : `not all of ${revision}; missing: ${state.missing.join(", ")}`;
    throw new ModelFileError(`${repo}: HF_HUB_OFFLINE is set and the cache ${settings.cacheDir} has ${lack}`);
  }
  // Only a model that must be downloaded needs the hub package.
  const { downloadSnapshot, lookUpCommit } = await import("./hub_download.ts");
  const subject = { repo, revision, signal: options.signal };
  const commit = isCommit(revision) ? revision : await lookUpCommit(settings, subject);
  await downloadSnapshot(settings, subject, commit, options.onProgress, options.configOnly === true ? [configFile] : undefined);
  return found(commit);
}
