/** The cells of a matrix on one model, group by group: load, try every press, close. What was tried before is not tried again. */

import type { AdapterDescription } from "../../../engine/gpu.ts";
import type { LoadOptions } from "../../../index.ts";
import { loadOptionsOf, SIZES, type Cell } from "./axes.ts";
import { groupsOf, keyOf } from "./cells.ts";
import { failureOf, refusalOf, tryCell, type Outcome, type Outcomes, type Texts, type Tried } from "./trial.ts";

export interface MatrixTools {
  readonly load: (model: string, options: LoadOptions) => Promise<Tried>;
  readonly onStep: (label: string, done: number, total: number) => void;
  /** After every group, so that nothing is lost. */
  readonly onGroup: (run: Pick<MatrixRun, "outcomes" | "adapter">) => void;
  readonly signal: AbortSignal;
  /** Milliseconds after which a cell is given up. */
  readonly longestMs?: number;
}

export interface MatrixRun {
  readonly status: "complete" | "interrupted";
  readonly outcomes: Outcomes;
  /** Null when nothing was loaded. */
  readonly adapter: AdapterDescription | null;
}

/** `text`: English prose of some thousand tokens. `before`: outcomes that stand. */
export async function runMatrix(
  model: string, cells: readonly Cell[], { text, adapter, before }: { readonly text: string; readonly adapter: string; readonly before: Outcomes },
  { load, onStep, onGroup, signal, longestMs }: MatrixTools,
): Promise<MatrixRun> {
  const outcomes = new Map(before);
  const wanted = groupsOf(cells.filter((cell) => !outcomes.has(keyOf(cell))));
  const total = wanted.reduce((sum, group) => sum + group.cells.length, 0);
  let done = 0, found: AdapterDescription | null = null;
  const next = (cell: Cell): void => { onStep(`${model}: ${keyOf(cell)}`, done++, total); };
  try {
    for (const group of wanted) {
      signal.throwIfAborted();
      let llm: Tried | null = null;
      for (const cell of group.cells) {
        next(cell);
        llm ??= await loaded(model, group.load, adapter, load).catch((error: unknown) => {
          // What refuses the load refuses all presses of it.
          const outcome = refusalOf(error, "load", 0, null) ?? failureOf(error);
          for (const one of group.cells) if (!outcomes.has(keyOf(one))) outcomes.set(keyOf(one), outcome);
          return null;
        });
        if (llm === null) {
          done += group.cells.length - group.cells.indexOf(cell) - 1;
          break;
        }
        found ??= llm.environment.adapter;
        const outcome: Outcome = await tryCell(llm, cell, await textsOf(llm, text), outcomes, signal, longestMs);
        outcomes.set(keyOf(cell), outcome);
        if (outcome.state !== "failed") continue;
        await closed(llm); // it may be in any state: the next cell gets a new one
        llm = null;
      }
      if (llm !== null) await closed(llm);
      onGroup({ outcomes, adapter: found });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    onGroup({ outcomes, adapter: found });
    return { status: "interrupted", outcomes, adapter: found };
  }
  onStep("done", total, total);
  return { status: "complete", outcomes, adapter: found };
}

async function loaded(model: string, cell: Omit<Cell, "press">, adapter: string, load: MatrixTools["load"]): Promise<Tried> {
  return load(model, loadOptionsOf(cell, adapter));
}

const CLOSE_MS = 10_000;

/** An LLM that does not end what it was asked to do would not close either. */
async function closed(llm: Tried): Promise<void> {
  const late = new Promise<void>((resolve) => { setTimeout(resolve, CLOSE_MS).unref(); });
  await Promise.race([llm.close(), late]);
}

const texts = new WeakMap<Tried, Texts>();

/** Prompts from different places, and a text behind them. */
async function textsOf(llm: Tried, text: string): Promise<Texts> {
  const known = texts.get(llm);
  if (known !== undefined) return known;
  const ids = await llm.tokenizer.encode(text), { prompts: lengths, context, continuation, windows } = SIZES;
  let at = 0;
  const cut = (count: number): readonly number[] => ids.slice(at, at += count);
  const made: Texts = { prompts: lengths.map(cut), scored: cut(windows * (context + continuation)) };
  texts.set(llm, made);
  return made;
}
