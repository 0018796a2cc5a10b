/** `node bench/compare.ts A B`: what may be told of two results, and refusing where they did not do the same work. */

import { Command } from "commander";
import { UsageError } from "../../../engine/errors.ts";
import { benchCommand, print, runCommand, startCommand } from "../cli.ts";
import { LANGUAGES } from "../lang/words.ts";
import { once } from "../load/flags.ts";
import { readResult } from "../result_file.ts";
import { versusJson, versusText, type Side } from "./report.ts";
import { versus } from "./versus.ts";

/** A run with nothing valid in it is no success. */
const EXIT_INVALID = 5;

function program(): Command {
  return benchCommand(
    new Command("node bench/compare.ts")
      .description(
        "Compare two results of the same experiment: what may be told, and what is noise. A and B are result.json files, or folders of runs.",
      )
      .argument("<A>", "the result to compare with: results/TECHNIQUE/runs/RUN")
      .argument("<B>", "the result that is compared")
      .option("--all", "show every metric in the tables, not only those that are judged")
      .option("--json", "print the comparison as JSON")
      .option("--lang <language>", "en or zh (default: what both results were written in, else en)", once),
  );
}

/** Returns the exit code. */
export function main(argv: readonly string[]): Promise<number> {
  return runCommand(program(), argv, async (command) => {
    const { all = false, json, lang } = command.opts<{ all?: boolean; json?: true; lang?: string }>();
    if (lang !== undefined && !Object.hasOwn(LANGUAGES, lang))
      throw new UsageError(`--lang: expected en or zh, got ${JSON.stringify(lang)}`);
    const [a, b] = command.processedArgs.map((path: string) => ({ path, result: readResult(path) })) as [Side, Side];
    const written = a.result.config.lang === b.result.config.lang ? a.result.config.lang : "en";
    const words = LANGUAGES[(lang as keyof typeof LANGUAGES | undefined) ?? written];
    const found = versus(a.result, b.result);
    await print(`${json === true ? versusJson(found, a, b, words) : versusText(found, a, b, { words, all })}\n`);
    return found.invalid.length > 0 ? EXIT_INVALID : 0;
  });
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
