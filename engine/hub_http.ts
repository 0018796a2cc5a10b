/**
 * One HTTP request to the hub, done properly: retried with growing pauses when the network or the server fails, given up when nothing
 * arrives for a while, refused with one clear sentence when the hub says no. The token goes to the hub's own origin and nowhere else
 * (fetch drops it on a redirect to another origin; a link in an answer that points elsewhere never gets it).
 */

import { homedir } from "node:os";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AbortedError, DawnlmError, ModelFileError, UsageError } from "./errors.ts";

export interface HubSettings {
  /** Without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly cacheDir: string;
  readonly offline: boolean;
  /** Give up on a connection that is silent for this long. */
  readonly timeoutMs: number;
  /** Pause before the first new attempt; it doubles with each further one. */
  readonly backoffMs: number;
}

/**
 * Settings from the variables every Hugging Face tool reads: HF_ENDPOINT, HF_TOKEN (or the token file under HF_HOME), HF_HUB_CACHE,
 * HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT (seconds, default 10).
 */
export async function hubSettings(env: NodeJS.ProcessEnv = process.env): Promise<HubSettings> {
  const home = env["HF_HOME"] || join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "huggingface");
  const endpoint = (env["HF_ENDPOINT"] || "https://huggingface.co").replace(/\/+$/, "");
  const { protocol } = URL.parse(endpoint) ?? { protocol: "" };
  if (!/^https?:$/.test(protocol)) throw new UsageError(`HF_ENDPOINT is "${endpoint}"; expected an http(s) address`);
  const timeout = env["HF_HUB_DOWNLOAD_TIMEOUT"] || "10";
  const seconds = Number(timeout);
  if (!(seconds > 0 && seconds <= 3600)) throw new UsageError(`HF_HUB_DOWNLOAD_TIMEOUT is "${timeout}"; expected seconds`);
  const token = (env["HF_TOKEN"] || await readFile(env["HF_TOKEN_PATH"] || join(home, "token"), "utf8").catch(() => "")).trim();
  if (!/^[!-~]*$/.test(token)) throw new UsageError("the Hugging Face token (HF_TOKEN or the token file) has characters that no token has");
  return {
    endpoint,
    token: token || undefined,
    cacheDir: resolve(env["HF_HUB_CACHE"] || env["HUGGINGFACE_HUB_CACHE"] || join(home, "hub")),
    offline: /^(1|true|yes|on)$/i.test(env["HF_HUB_OFFLINE"] ?? ""),
    timeoutMs: 1000 * seconds,
    backoffMs: 250,
  };
}

/** What is being asked for, for the sentences of errors. */
export interface HubSubject {
  readonly repo: string;
  readonly revision: string;
  /** Of a data set: the folder of the repository that is wanted. Absent for a model, whose files stand at the top. */
  readonly dataset?: { readonly folder: string } | undefined;
  readonly signal?: AbortSignal | undefined;
}

export const kindOf = ({ dataset }: HubSubject): "model" | "dataset" => (dataset === undefined ? "model" : "dataset");

/** The address of a repository's page, and the start of that of its files. */
export const pageOf = ({ endpoint }: HubSettings, subject: HubSubject): string =>
  `${endpoint}/${subject.dataset === undefined ? "" : "datasets/"}${subject.repo}`;

/** An attempt that failed in a way that another one may not. */
export class TransientError extends Error {
  readonly waitMs: number;
  constructor(message: string, waitMs = 0) {
    super(message);
    this.waitMs = waitMs;
  }
}

const maxAttempts = 5;
const maxWaitMs = 60_000;
/** An attempt that got this far was worth it: the count of attempts starts anew, so a bad line does not end a long download. */
const goodProgressBytes = 2 ** 20;

/**
 * Requests `url` and hands the answer (status 2xx) to `receive`, which calls `progress(bytes)` as it reads. Attempts are repeated after
 * network errors, silence, 429 and 5xx, and after a TransientError of `receive`. Throws ModelFileError or AbortedError.
 */
export async function request<T>(
  settings: HubSettings, subject: HubSubject, url: string, headers: () => Promise<Record<string, string>>,
  receive: (response: Response, progress: (bytes: number) => void) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    let received = 0;
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), settings.timeoutMs);
    try {
      const signal = AbortSignal.any([silence.signal, ...(subject.signal === undefined ? [] : [subject.signal])]);
      const response = await fetch(url, { headers: { ...await headers(), ...authorization(settings, url) }, signal });
      if (!response.ok) {
        await response.body?.cancel();
        throw refusal(settings, subject, response);
      }
      return await receive(response, (bytes) => {
        received += bytes;
        timer.refresh();
      });
    } catch (error) {
      if (subject.signal?.aborted) throw new AbortedError("model download was aborted", { cause: error });
      if (error instanceof DawnlmError || isLocalFailure(error)) throw error;
      const reason = silence.signal.aborted ? `silent for ${settings.timeoutMs / 1000} s` : networkReason(error);
      if (received >= goodProgressBytes) attempt = 0;
      const wait = Math.max(settings.backoffMs * 2 ** attempt, error instanceof TransientError ? error.waitMs : 0);
      if (attempt >= maxAttempts || wait > maxWaitMs || reason.includes("redirect count")) {
        const attempts = `${attempt} attempt${attempt === 1 ? "" : "s"}`;
        throw new ModelFileError(`${subject.repo}: no answer from ${new URL(url).origin} after ${attempts} (${reason}); `
          + "try again later, or check the connection and HF_ENDPOINT", { cause: error });
      }
      await sleep(wait, undefined, { signal: subject.signal }).catch(() => { throw new AbortedError("model download was aborted"); });
    } finally {
      clearTimeout(timer);
    }
  }
}

function authorization(settings: HubSettings, url: string): Record<string, string> {
  if (settings.token === undefined || new URL(url).origin !== new URL(settings.endpoint).origin) return {};
  return { authorization: `Bearer ${settings.token}` };
}

/** Errors of our own disk, which no new attempt will heal. */
const isLocalFailure = (error: unknown): boolean =>
  /^E(ACCES|ROFS|PERM|NOSPC|DQUOT|NOTDIR|ISDIR|NOENT|EXIST|IO|MFILE|FBIG)$/.test((error as NodeJS.ErrnoException | undefined)?.code ?? "");

/** fetch says "fetch failed" or "terminated"; why stands in its cause. */
function networkReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause as { code?: string; message?: string } | undefined;
  return cause?.code ?? cause?.message ?? error.message;
}

function refusal(settings: HubSettings, subject: HubSubject, response: Response): Error {
  const { repo, revision } = subject, { status } = response;
  const code = response.headers.get("x-error-code");
  const page = pageOf(settings, subject), kind = subject.dataset === undefined ? "model" : "data set";
  if (status === 429 || status >= 500) {
    const retryAfter = response.headers.get("retry-after");
    const seconds = Number(retryAfter ?? 0);
    const wait = Number.isFinite(seconds) ? 1000 * seconds : Date.parse(retryAfter ?? "") - Date.now();
    const named = retryAfter === null ? "" : `, retry after ${retryAfter}`;
    return new TransientError(`HTTP ${status}${named}`, Number.isFinite(wait) ? wait : 0);
  }
  if (status === 401 && settings.token === undefined) {
    return new ModelFileError(`${repo}: no such ${kind} at ${settings.endpoint}, or it is private (HTTP 401): `
      + "check the name, or set HF_TOKEN to a token that may read it");
  }
  if (status === 401) {
    return new ModelFileError(`${repo}: ${settings.endpoint} does not accept the token of HF_TOKEN (HTTP 401): it may be wrong or expired`);
  }
  if (status === 403 || code === "GatedRepo") {
    return new ModelFileError(`${repo}: access is restricted (HTTP ${status}): `
      + `accept the licence at ${page} and set HF_TOKEN to a token of that account`);
  }
  if (status === 404 && code === "EntryNotFound" && subject.dataset !== undefined) {
    return new ModelFileError(`${repo}: has no folder ${subject.dataset.folder} (HTTP 404); see ${page}/tree/main`);
  }
  if (status === 404 && (code === "RevisionNotFound" || (code !== "RepoNotFound" && revision !== "main"))) {
    return new ModelFileError(`${repo}: has no revision "${revision}" (HTTP 404); see ${page}/tree/main`);
  }
  if (status === 404) {
    const here = kind === "model" ? ", and no folder of that name here" : "";
    return new ModelFileError(`${repo}: no such ${kind} at ${settings.endpoint} (HTTP 404)${here}`);
  }
  return new ModelFileError(`${repo}: ${new URL(response.url).origin} answers HTTP ${status}`);
}

const maxAnswerBytes = 64 * 2 ** 20;

/**
 * A `fetch` for the hub package's listing calls: same rules, and the answer is read to its end here, so that the package only parses it.
 */
export function listingFetch(settings: HubSettings, subject: HubSubject): typeof fetch {
  const headers = async () => ({ accept: "application/json" });
  return (input) => request(settings, subject, String(input), headers, async (response, progress) => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of response.body ?? []) {
      progress(chunk.length);
      size += chunk.length;
      if (size > maxAnswerBytes) throw new ModelFileError(`${subject.repo}: the hub's answer is larger than ${maxAnswerBytes} bytes`);
      chunks.push(chunk);
    }
    const kept = new Headers(response.headers);
    kept.delete("content-encoding");
    kept.delete("content-length");
    return new Response(Buffer.concat(chunks), { status: response.status, headers: kept });
  });
}
