/**
 * The texts that a measurement of quality reads: WikiText and PG-19 from the hub, local files, and the bundled texts that the bundled models
 * never saw, which need no network. Each is a list of documents, one of which a run takes:
 *   wikitext         Salesforce/wikitext, test split of the subset; an article is a document (documents.ts has the rule)
 *   pg19             emozilla/pg19-test, the 100 books of PG-19's test split as parquet; a book is a document
 *   wikitext-sample  19 addresses under ` = title = ` headings; pg19-sample: a novel
 *   PATH             a text file (documents where it begins with such a heading, else one), or a parquet file with a column `text` (a row each)
 * Nothing is stripped or joined: a document is the text as it is stored. Windows are cut from its tokens, beginning with the first.
 */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { ModelFileError, UsageError } from "../../../engine/errors.ts";
import { resolveDataset, type DatasetFiles } from "../../../engine/hub_dataset.ts";
import { hubSettings, type HubSettings } from "../../../engine/hub_http.ts";
import { nearest } from "../../../engine/nearest.ts";
import { joinLines, splitLocal, splitWikitext, type Document } from "./documents.ts";
import { readTexts } from "./parquet.ts";

export const WIKITEXT_SUBSETS = ["wikitext-2-raw-v1", "wikitext-2-v1", "wikitext-103-raw-v1", "wikitext-103-v1"] as const;
export const DATASETS = ["wikitext", "pg19", "wikitext-sample", "pg19-sample"] as const;
/** Bundled texts by the names that `--text` knows, too. */
const BUNDLED: Readonly<Record<string, string>> = {
  "wikitext-sample": "sotu_heldout.txt", "pg19-sample": "persuasion.txt", sotu: "sotu_heldout.txt", persuasion: "persuasion.txt",
};

/** Which document of which data set. */
export interface SampleRequest {
  /** One of DATASETS, or a path. */
  readonly dataset: string;
  /** Of wikitext; null: wikitext-2-raw-v1. */
  readonly subset: string | null;
  readonly index: number;
}

export interface Sample extends Document {
  readonly dataset: string;
  readonly subset: string | null;
  /** Where it came from: repository, commit and split, or the name of a file. */
  readonly source: string;
  readonly index: number;
  /** Documents of the data set. */
  readonly documents: number;
  /** Of the document's UTF-8 bytes. */
  readonly sha256: string;
}

export interface SampleOptions {
  readonly settings?: HubSettings;
  readonly onProgress?: (label: string, done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Throws UsageError for a data set, subset or document that is not there, ModelFileError where the hub or a file cannot be read. */
export async function loadSample({ dataset, subset, index }: SampleRequest, options: SampleOptions = {}): Promise<Sample> {
  if (subset !== null && dataset !== "wikitext") throw new UsageError(`--subset: ${dataset} has none; only wikitext has`);
  const { documents, source, subset: taken } = await documentsOf(dataset, subset, options);
  const document = documents[index];
  if (document === undefined) {
    throw new UsageError(`--sample-idx ${index}: ${dataset} has ${documents.length} document${documents.length === 1 ? "" : "s"}, counted from 0`);
  }
  if (document.text.trim() === "") throw new UsageError(`--sample-idx ${index}: this document of ${dataset} is empty`);
  const sha256 = createHash("sha256").update(document.text).digest("hex");
  return { ...document, dataset, subset: taken, source, index, documents: documents.length, sha256 };
}

interface Documents { readonly documents: readonly Document[]; readonly source: string; readonly subset: string | null }

async function documentsOf(dataset: string, subset: string | null, options: SampleOptions): Promise<Documents> {
  if (dataset === "wikitext") {
    const taken = subset ?? WIKITEXT_SUBSETS[0];
    if (!(WIKITEXT_SUBSETS as readonly string[]).includes(taken)) {
      const [close] = nearest(taken, WIKITEXT_SUBSETS);
      const hint = close === undefined ? "." : `; did you mean ${close}?`;
      throw new UsageError(`--subset: unknown subset "${taken}" of wikitext${hint} There are ${WIKITEXT_SUBSETS.join(", ")}`);
    }
    const files = { repo: "Salesforce/wikitext", revision: "main", folder: taken, split: "test" } as const;
    const { rows, source } = await fromHub("wikitext-sample", files, options);
    return { documents: splitWikitext(joinLines(rows.map(({ text }) => text))), source, subset: taken };
  }
  if (dataset === "pg19") {
    const files = { repo: "emozilla/pg19-test", revision: "main", folder: "data", split: "test" } as const;
    const { rows, source } = await fromHub("pg19-sample", files, options);
    return { documents: rows, source, subset: null };
  }
  const bundled = BUNDLED[dataset];
  if (bundled !== undefined) {
    return { documents: splitLocal(readText(dataset, new URL(`../../../assets/texts/${bundled}`, import.meta.url))), source: bundled, subset: null };
  }
  if (/\.parquet$/i.test(dataset)) return { documents: await readTexts(dataset), source: dataset, subset: null };
  return { documents: splitLocal(readText(dataset, dataset)), source: dataset, subset: null };
}

async function fromHub(sample: string, files: DatasetFiles, { settings, onProgress, signal }: SampleOptions): Promise<{ rows: Document[]; source: string }> {
  let found: Awaited<ReturnType<typeof resolveDataset>>;
  try {
    found = await resolveDataset(settings ?? await hubSettings(), files, {
      signal, ...(onProgress !== undefined && { onProgress: ({ label, loaded, total }) => { onProgress(`download: ${label}`, loaded, total); } }),
    });
  } catch (error) {
    if (!(error instanceof ModelFileError)) throw error;
    throw new ModelFileError(`${error.message}. Without a network take --dataset ${sample}, which is bundled`, { cause: error });
  }
  const rows = (await Promise.all(found.paths.map((path) => readTexts(path)))).flat();
  return { rows, source: `${files.repo}@${found.revision} ${files.folder}/${files.split}` };
}

/** UTF-8 text of a file that is not empty. Throws UsageError. */
function readText(name: string, path: string | URL): string {
  let content: string;
  try {
    content = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const [close] = nearest(name, DATASETS), hint = close === undefined ? "." : `; did you mean ${close}?`;
    const why = code === "ENOENT" ? `no such file, and no data set of that name${hint} There are ${DATASETS.join(", ")}`
      : code === "EISDIR" ? "is a folder" : code?.startsWith("ERR_ENCODING") ? "is not UTF-8 text" : "cannot be read";
    throw new UsageError(`--dataset ${name}: ${why}`);
  }
  if (content.trim() === "") throw new UsageError(`--dataset ${name}: is empty`);
  return content;
}

