/** A result run again: the same work from the same seeds, whatever became of the files and defaults that its config came from. */

import { nearest } from "../../engine/nearest.ts";
import { UsageError } from "../../engine/errors.ts";
import type { LoadedConfig } from "./config.ts";
import { problemsOf } from "./problems.ts";
import type { Result } from "./result.ts";
import type { ExperimentConfig } from "./schema.ts";

/**
 * The config of the run that repeats `result`, which was read from `path`. Prompts that came from a file are taken from the result. Throws
 * UsageError when the config is none of this program's: edited by hand, or of another version.
 */
export function replayed({ config, configOrigins, prompts }: Result, path: string, outputDir: string | undefined): LoadedConfig {
  const { prompts_file, ...rest } = config, { prompts_file: _file, ...origins } = configOrigins, isFromFile = prompts_file !== undefined;
  const values = {
    ...rest, save_results: true, ...(isFromFile && { prompts: [...prompts.texts] }), ...(outputDir !== undefined && { output_dir: outputDir }),
  } as ExperimentConfig;
  const problems = problemsOf(values, nearest);
  if (problems.length > 0) throw new UsageError(problems.map(({ key, message }) => `${path}: config.${key}: ${message}`).join("\n"));
  return {
    config: Object.freeze(values), file: path,
    origins: { ...origins, ...(isFromFile && { prompts: "result" }), ...(outputDir !== undefined && { output_dir: "flag" }) },
  };
}
