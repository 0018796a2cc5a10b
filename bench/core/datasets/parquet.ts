/**
 * The text column of a parquet file. The hub's files are compressed with snappy (which the reader has itself) or zstd; that, gzip and brotli
 * Node has.
 */

import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, type Compressors } from "hyparquet";
import { ModelFileError } from "../../../engine/errors.ts";
import { reasonOf } from "../../../engine/text.ts";

const compressors: Compressors = { GZIP: (data) => gunzipSync(data), BROTLI: (data) => brotliDecompressSync(data), ZSTD: (data) => zstdDecompressSync(data) };

/** Rows of the column `column` (and of `title` beside it, where the file has one). Throws ModelFileError. */
export async function readTexts(path: string, column = "text", title = "short_book_title"): Promise<{ text: string; title: string | null }[]> {
  let rows: Record<string, unknown>[];
  try {
    const file = await asyncBufferFromFile(path), metadata = await parquetMetadataAsync(file);
    const columns = metadata.schema.map(({ name }) => name);
    if (!columns.includes(column)) throw new ModelFileError(`${path}: has no column "${column}" (its columns are ${columns.slice(1).join(", ")})`);
    rows = await parquetReadObjects({ file, metadata, columns: [column, title].filter((name) => columns.includes(name)), compressors });
  } catch (error) {
    if (error instanceof ModelFileError) throw error;
    throw new ModelFileError(`${path}: cannot be read as parquet: ${reasonOf(error)}`, { cause: error });
  }
  return rows.map((row, i) => {
    const text = row[column], named = row[title];
    if (typeof text !== "string") throw new ModelFileError(`${path}: "${column}" of row ${i} is no text`);
    return { text, title: typeof named === "string" ? named : null };
  });
}
