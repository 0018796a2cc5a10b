/**
 * The folder that one run has to itself, results/<technique>/runs/<time>-<name>: its journal while it runs, its result, page and pictures
 * when it has ended. No two runs share one, so none overwrites another, and while one writes there no other takes it up; the reports
 * beside `runs` are those of the run that ended last.
 */

import { existsSync, mkdirSync, realpathSync, rmdirSync, rmSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { DawnlmError, UsageError } from "../../engine/errors.ts";
import { cannotWrite, ResultsFolder, writeTogether } from "./files.ts";
import { JOURNAL_FILE, RESULT_FILE } from "./result_file.ts";

export class RunFolder {
  readonly path: string;
  #held: ResultsFolder | null = null;

  /** A new one under `root`, held. Throws UsageError when a link leads out of `root`, DawnlmError when it cannot be written. */
  static create(root: string, technique: string, name: string, started: Date): RunFolder {
    const parent = join(root, technique, "runs"), stamp = started.toISOString().slice(0, 19).replaceAll(":", "-");
    let path = parent;
    try {
      // One after the other: nothing is made behind a link that leads away.
      for (const made of [join(root, technique), parent]) {
        mkdirSync(made, { recursive: true });
        if (relative(realpathSync(root), realpathSync(made)).startsWith("..")) {
          throw new UsageError(`${made}: is a link that leads out of ${root}; remove it or give another --output-dir`);
        }
      }
      for (let twin = 1; ; twin++) {
        path = join(parent, `${stamp}-${name}${twin === 1 ? "" : `-${twin}`}`);
        try {
          mkdirSync(path);
          const folder = new RunFolder(path);
          folder.hold();
          return folder;
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException;
          if (twin > 1000 || (code !== "ENOENT" && !(code === "EEXIST" && existsSync(path)))) throw error;
          if (code === "ENOENT") mkdirSync(parent, { recursive: true }); // another run left nothing and tidied up just now
        }
      }
    } catch (error) {
      throw error instanceof DawnlmError ? error : cannotWrite(join(root, technique), error);
    }
  }

  constructor(path: string) { this.path = path; }

  /** Keep others from writing there until `release`. Throws UsageError when a run that goes on does so itself. */
  hold(): void {
    const path = resolve(this.path);
    this.#held = ResultsFolder.open(dirname(path), basename(path));
  }

  release(): void {
    this.#held?.release();
    this.#held = null;
  }

  get journal(): string { return join(this.path, JOURNAL_FILE); }

  /** All files or none; names may have one folder in front. Returns their paths. */
  write(files: readonly (readonly [name: string, content: string | Uint8Array])[]): string[] {
    try {
      for (const [name] of files) if (name.includes("/")) mkdirSync(join(this.path, name, ".."), { recursive: true });
    } catch (error) {
      throw cannotWrite(this.path, error);
    }
    return writeTogether(this.path, files);
  }

  hasJournal(): boolean {
    return existsSync(this.journal);
  }

  hasResult(): boolean {
    return existsSync(join(this.path, RESULT_FILE));
  }

  /** Of a run that measured nothing. */
  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
    for (const parent of [join(this.path, ".."), join(this.path, "../..")]) {
      try {
        rmdirSync(parent); // only when it is empty, whatever another run does at the same moment
      } catch {
        return; // it is not ours to tidy
      }
    }
  }
}
