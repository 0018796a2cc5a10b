/**
 * What keeps a run from being lost: every measured step is written down, on the disk before the next begins. A run that is stopped, killed
 * or out of disk leaves a file that says so, and can be taken up again: its steps are then read instead of measured. One JSON value on a
 * line, the first is the header; a last line that was cut off in the middle counts as not written.
 */

import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, rmSync, statfsSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { DawnlmError, UsageError } from "../../engine/errors.ts";
import { cannotWrite } from "./files.ts";

export const JOURNAL_VERSION = 1;
/** Less than this on the disk, and a run is not begun: its reports might not fit. */
const ROOM_BYTES = 16 << 20;

const SAME = "same: ", RESUMED = "resumed: ";

type Entry = { readonly step: string; readonly value: unknown };

export interface Journal {
  /** The result of `body`, from the file where an earlier run of this step was written down. It must survive JSON unchanged. */
  step<T>(name: string, body: () => Promise<T>): Promise<T>;
  /** Whether a step is written down. */
  has(name: string): boolean;
  /** Note what must be the same when the run is taken up again; throws UsageError where it is not. `what` names it to the user. */
  same(what: string, value: unknown): void;
}

/** Of runs that leave no files. */
export const NO_JOURNAL: Journal = { step: (_, body) => body(), has: () => false, same: () => {} };

export class FileJournal implements Journal {
  readonly path: string;
  readonly header: unknown;
  readonly #file: number;
  readonly #steps: Map<string, unknown>;

  /** A new file. Throws DawnlmError when it cannot be written or the disk has no room for a run. */
  static create(path: string, header: unknown): FileJournal {
    try {
      const { bavail, bsize } = statfsSync(dirname(path));
      if (bavail * bsize < ROOM_BYTES) throw Object.assign(new Error("no room"), { code: "ENOSPC" });
      const journal = new FileJournal(path, openSync(path, "wx"), header, new Map());
      try {
        journal.#append({ journalVersion: JOURNAL_VERSION, status: "running", header });
      } catch (error) {
        journal.close({ remove: true });
        throw error;
      }
      return journal;
    } catch (error) {
      throw error instanceof DawnlmError ? error : cannotWrite(path, error);
    }
  }

  /** The file of a run that ended early. Throws UsageError when it is none. */
  static open(path: string): FileJournal {
    const wrong = (reason: string): UsageError => new UsageError(`${path}: ${reason}`);
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      throw wrong((error as NodeJS.ErrnoException).code === "ENOENT" ? "no such journal; give the folder of a run that ended early" : "cannot be read");
    }
    const whole = text.slice(0, text.lastIndexOf("\n") + 1), [first, ...lines] = whole.split("\n").slice(0, -1);
    const parse = (line: string | undefined, key: string): Record<string, unknown> => {
      try {
        const value: unknown = JSON.parse(line ?? "");
        if (typeof value === "object" && value !== null && key in value) return value as Record<string, unknown>;
      } catch {
        // told below
      }
      throw wrong("is not a journal of `node bench/run.ts`");
    };
    const { journalVersion, header } = parse(first, "header");
    if (journalVersion !== JOURNAL_VERSION) throw wrong(`is a journal of version ${String(journalVersion)}, this program writes version ${JOURNAL_VERSION}: run the experiment anew`);
    const entries = lines.map((line) => parse(line, "step") as unknown as Entry);
    try {
      const file = openSync(path, "r+");
      ftruncateSync(file, Buffer.byteLength(whole));
      closeSync(file);
      return new FileJournal(path, openSync(path, "a"), header, new Map(entries.map(({ step, value }) => [step, value])));
    } catch (error) {
      throw cannotWrite(path, error);
    }
  }

  private constructor(path: string, file: number, header: unknown, steps: Map<string, unknown>) {
    this.path = path;
    this.header = header;
    this.#file = file;
    this.#steps = steps;
  }

  /** How many results are written down. */
  get samples(): number { return [...this.#steps.keys()].filter((step) => !step.startsWith(SAME) && !step.startsWith(RESUMED)).length; }

  /** Note that the run is taken up again now; returns every time that it was. */
  resumed(now: string): string[] {
    this.#note(`${RESUMED}${now}`, now);
    return [...this.#steps.keys()].filter((step) => step.startsWith(RESUMED)).map((step) => step.slice(RESUMED.length));
  }

  has(name: string): boolean { return this.#steps.has(name); }

  async step<T>(name: string, body: () => Promise<T>): Promise<T> {
    if (this.#steps.has(name)) return this.#steps.get(name) as T;
    const value = await body();
    this.#note(name, value);
    return value;
  }

  same(what: string, value: unknown): void {
    const name = `${SAME}${what}`, plain: unknown = JSON.parse(JSON.stringify(value));
    if (!this.#steps.has(name)) return this.#note(name, plain);
    if (isDeepStrictEqual(this.#steps.get(name), plain)) return;
    throw new UsageError(`${this.path}: ${what} is not what it was when the run began, and samples of both would be mixed: run the experiment anew`);
  }

  /** Done with it; `remove` when everything it holds stands in a result. */
  close({ remove }: { readonly remove: boolean }): void {
    closeSync(this.#file);
    if (remove) rmSync(this.path, { force: true });
  }

  #note(step: string, value: unknown): void {
    this.#append({ step, value });
    this.#steps.set(step, value);
  }

  #append(value: unknown): void {
    try {
      const bytes = Buffer.from(`${JSON.stringify(value)}\n`);
      for (let at = 0; at < bytes.length;) at += writeSync(this.#file, bytes, at);
      fsyncSync(this.#file);
    } catch (error) {
      throw cannotWrite(this.path, error);
    }
  }
}
