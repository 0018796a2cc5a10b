/** `dawnlm convert`: a checkpoint in another number format, in a new folder, in the layout of Hugging Face and bitsandbytes. */

import { UsageError } from "../../engine/errors.ts";
import { resolveModel } from "../../engine/hub.ts";
import type { DownloadProgress } from "../../engine/hub_download.ts";
import { convertCheckpoint, type ConvertFormat } from "../../models/convert.ts";
import { EXIT_INTERRUPTED, interruptible, print, progressBar } from "../../bench/core/cli.ts";

export interface ConvertFlags { readonly weights: ConvertFormat; readonly out: string; readonly revision?: string; readonly json?: boolean }

/** Returns the exit code. */
export async function convert(model: string, { weights, out, revision, json }: ConvertFlags): Promise<number> {
  return interruptible(async (signal) => {
    const bar = progressBar();
    try {
      const onDownload = ({ label, loaded, total }: DownloadProgress): void => { bar.update({ stage: "download", label, loaded, total }); };
      const resolved = await resolveModel(model, { revision, signal, onProgress: onDownload });
      if (resolved.kind !== "folder") {
        throw new UsageError(`${model} has no weights in files; give a folder, a bundled name or a Hugging Face id`);
      }
      const onProgress = (label: string, loaded: number, total: number): void => { bar.update({ stage: "weights", label, loaded, total }); };
      const report = await convertCheckpoint(resolved.folder, { weights, out, signal, onProgress });
      bar.stop();
      const { files: { length: files }, matrices, bytesBefore, bytesAfter } = report;
      const what = `${matrices > 0 ? `${matrices} matrices` : "floats"} in ${weights}, ${files} ${files === 1 ? "file" : "files"}`;
      await print(json === true ? `${JSON.stringify({ model: resolved.id, revision: resolved.revision, format: weights, ...report })}\n`
        : `${report.out}: ${what}, ${megabytes(bytesBefore)} before, ${megabytes(bytesAfter)} now\n`);
      return 0;
    } catch (error) {
      if (signal.aborted) return EXIT_INTERRUPTED;
      throw error;
    } finally {
      bar.stop();
    }
  });
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1)} MB`;
