/**
 * Every command that a page tells a reader to run is one: the program exists and takes the flags and their values. The commands read their
 * arguments themselves, as they would in a shell; those of the bench go on, through configs and texts, until they ask for a model or a device.
 */

import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { normaliseArgv } from "../../bench/core/cli.ts";
import { Gpu } from "../../engine/gpu.ts";
import { LLM } from "../../index.ts";
import { ROOT } from "./guide.ts";
import { commandsOf, pages, split, type Told } from "./pages.ts";

/** What a command answers to its arguments: nothing, or why it cannot take them. */
type Reader = (args: readonly string[]) => Promise<string>;

const { parseAsync } = Command.prototype, { load } = LLM, { open } = Gpu;
const READ = new CommanderError(0, "dawnlm.read", "");
const stop = (): Promise<never> => Promise.reject(READ);
/** A folder to be in, like the repository to who gives a path, and not the place where results are kept. */
const place = mkdtempSync(join(tmpdir(), "dawnlm-commands-"));

test.before(() => {
  [LLM.load, Gpu.open] = [stop, stop];
  for (const name of ["assets", "config", "configs"]) symlinkSync(join(ROOT, name), join(place, name), "junction");
  process.chdir(place);
});
test.after(() => {
  [LLM.load, Gpu.open] = [load, open];
  process.chdir(ROOT);
  rmSync(place, { recursive: true });
});

/** What goes to standard error while `body` runs; what goes to standard output is nobody's concern. */
async function saidBy(body: () => Promise<unknown>): Promise<string> {
  const { stdout, stderr } = process, writes = [stdout.write, stderr.write] as const;
  let said = "";
  stdout.write = (() => true) as typeof stdout.write;
  stderr.write = ((text: string | Uint8Array) => { said += String(text); return true; }) as typeof stderr.write;
  try {
    await body();
    return said.trim();
  } finally {
    [stdout.write, stderr.write] = writes;
  }
}

/** A command of the bench: the module behind its five lines, writing elsewhere, and stopped where it would load a model or open a device. */
async function benchReader(program: string): Promise<Reader | null> {
  const file = join(ROOT, program);
  if (!existsSync(file)) return null;
  const [, module] = /\$\{__dirname\}\/(core\/[\w/]+\.ts)/.exec(readFileSync(file, "utf8"))!;
  const { main } = await import(join(ROOT, "bench", module!)) as { main(args: readonly string[]): Promise<number> };
  return async (args) => {
    let code = 0;
    const said = await saidBy(async () => { code = await main(args); });
    return code === 0 ? "" : said || `it ends with ${code}`;
  };
}

/** The command dawnlm: its program, taken when it is about to read the arguments of this process, with actions that do nothing. */
async function dawnlmReader(): Promise<Reader> {
  let program: Command | undefined;
  Command.prototype.parseAsync = function take() {
    program = this as Command;
    throw READ;
  };
  await import("../../bin/dawnlm.ts");
  Command.prototype.parseAsync = parseAsync;
  for (const command of program!.commands) command.action(() => {});
  return (args) => saidBy(async () => {
    await program!.parseAsync(normaliseArgv(args, program!), { from: "user" }).catch((error: unknown) => {
      if (!(error instanceof CommanderError)) throw error;
    });
  });
}

const readers = new Map<string, Promise<Reader | null>>([["dawnlm", dawnlmReader()]]);

async function problemOf({ program, args, line }: Told): Promise<string | null> {
  const reader = readers.get(program) ?? benchReader(program);
  readers.set(program, reader);
  const read = await reader;
  if (read === null) return `${line}: there is no ${program}`;
  const said = await read(args);
  return said === "" ? null : `${line}: ${said}`;
}

test("commands in the READMEs and the guides", async () => {
  const checked = pages().filter(({ path }) => /^README[^/]*\.md$|^docs\/|^techniques\//.test(path));
  const told = checked.flatMap(({ path, text }) => commandsOf(text).map((each) => [path, each] as const));
  assert.ok(told.length > 40, `${told.length} commands`);
  const problems: string[] = [];
  for (const [path, each] of told) {
    const problem = await problemOf(each);
    // What a guide adds is known only to who has followed it.
    const added = path.startsWith("docs/guide/add_a_") && /unknown press "value_norm"|argument 'fp8' is invalid|got .*"fp8"/.test(problem ?? "");
    // Runs that a reader would have, and the one command that counts models which do not load instead of ending with them.
    const begun = /results\/\S+: no such file or folder|combinations to try, loads: \d+/.test(problem ?? "");
    if (problem !== null && !added && !begun) problems.push(`${path}: ${problem}`);
  }
  assert.equal(problems, []);
});

test("a command that is none is seen", async () => {
  const said = async (line: string): Promise<string | null> => problemOf(commandsOf(`    ${line}\n`)[0]!);
  assert.match((await said("node bench/nothing.ts --config a.yaml"))!, /there is no bench\/nothing\.ts/);
  assert.match((await said("node bench/run.ts --configuration a.yaml"))!, /unknown option/);
  assert.match((await said("node bench/run.ts --config config/nothing.yaml"))!, /nothing\.yaml/);
  assert.match((await said("node bench/perplexity.ts --press snapkv,random --ppl-apply-press"))!, /the end was expected/);
  assert.match((await said("npx dawnlm generate --presss snapkv"))!, /unknown option/);
  assert.match((await said("npx dawnlm generat \"a\""))!, /unknown command/);
  assert.match((await said("npx dawnlm generate a b"))!, /too many arguments/);
  assert.match((await said("npx dawnlm generate a --weights int3"))!, /Allowed choices/);
  assert.is(await said("npx dawnlm generate a --max_tokens 3 --weights nf4 # a comment"), null);
});

test("a page's commands are those in its code that are whole", () => {
  const page = [
    "Run `node bench/a.ts --b` or `npx dawnlm c MODEL`.", "", "    node bench/d.ts \"e f\" --g='h' # i", "", "```sh", "npx dawnlm j", "```", "`node bench/k.ts …`", "",
  ].join("\n");
  assert.equal(commandsOf(page).map(({ program, args }) => [program, ...args]), [
    ["dawnlm", "j"], ["bench/d.ts", "e f", "--g=h"], ["bench/a.ts", "--b"],
  ]);
  assert.equal(split("a \"b c\" 'd' --e=\"f g\" #h"), ["a", "b c", "d", "--e=f g"]);
});

test.run();
