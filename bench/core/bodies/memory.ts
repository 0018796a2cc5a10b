/** The memory benchmark in the common shape: a group for every distribution of lengths, measured one after the other. */

import { compare } from "../compare.ts";
import { memoryDetail, memoryStatusOf, wordsOf, type MemoryRun } from "../report/json.ts";
import { memoryIntro, memoryLines, rowsOf } from "../report/memory.ts";
import type { ResultBody } from "../result.ts";
import { layoutArmsIn, nameIn } from "./layouts.ts";
import { warmUpOf, yardsOf } from "../turns.ts";
import { plainNotes, renamed, standingNotes, subjectOf } from "./parts.ts";

/** Columns of the report's table that are no metrics: what fits, runs at a time and is wasted, and preemptions. */
const FACTS = [2, 3, 4, 5, 6, 7, 8] as const;

export function memoryBody(run: MemoryRun): ResultBody {
  const words = wordsOf(run), { cells } = run.memory, { memory: { columns } } = words, first = cells[0]!.outcome;
  return {
    status: memoryStatusOf(run), ...subjectOf(run, first, words), corpus: null,
    arms: cells.flatMap((cell) => {
      const rows = rowsOf([cell], words), { distribution: group, outcome } = cell;
      return layoutArmsIn(outcome, compare(outcome, words), words, {
        group, factsOf: (at) => FACTS.map((column) => [columns[column]!, rows[at]![column]]),
      });
    }),
    order: cells.flatMap(({ distribution, outcome }) => outcome.order.map((turn) => turn.map((name) => nameIn(distribution, name)))),
    warmUp: warmUpOf(cells.map(({ distribution, outcome }) => renamed(outcome.warmUp, (name) => nameIn(distribution, name)))),
    yardstick: yardsOf(cells.map(({ outcome }) => outcome.yardstick)),
    // What was stopped, or is invalid in some distribution, the last lines say themselves.
    notes: plainNotes([...standingNotes(first, "complete", null, words), ...memoryIntro(run), ...memoryLines(run), words.memory.synthetic]),
    pictures: [], detail: memoryDetail(run),
  };
}
