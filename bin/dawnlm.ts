#!/usr/bin/env node
/**
 * The `dawnlm` command: which subcommands and options there are. What a subcommand does is one function in commands/, imported only when
 * it runs, so that --help and a mistyped option are answered at once, even where no GPU driver is installed.
 */

import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import { guardProcess, normaliseArgv, oneLine, reportFailure } from "../bench/core/cli.ts";
import { addModelOptions, parseBytes, parseNumber } from "./model_options.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };
let exitCode = 0;

const program = new Command("dawnlm")
  .description("Run large language models from TypeScript on any GPU.")
  .version(version)
  .option("--debug", "show where an error came from")
  .exitOverride()
  .configureHelp({ showGlobalOptions: true })
  .configureOutput({ outputError: (text, write) => { write(`dawnlm: ${usageMessage(text)}\n`); } })
  .addHelpText("after", "\nExit codes: 0 ok, 1 internal error, 2 usage, 3 model or tokenizer files, 4 no usable GPU, 130 Ctrl-C.");

addModelOptions(program.command("generate")
  .description("continue a prompt; the text goes to standard output as it is made")
  .argument("[prompt]", "the text to continue; - reads standard input, as does leaving it out in a pipe (one final newline is dropped)"))
  .option("--json", "print one JSON object at the end instead of the text")
  .option("--logprobs <count>", "with --json: log-probabilities of each token and of this many likelier ones, 0 to 20", parseNumber)
  .action(async (prompt: string | undefined, flags) => {
    exitCode = await (await import("./commands/generate.ts")).generate(prompt, flags);
  });

addModelOptions(program.command("chat")
  .description("talk with a model through its chat template; /reset forgets the conversation, /exit leaves"))
  .action(async (flags) => { exitCode = await (await import("./commands/chat.ts")).chat(flags); });

program.command("tune")
  .description("time the variants of a model's matrix products on this device; later runs take the fastest by themselves")
  .option("-m, --model <model>", "a folder, a bundled name, a Hugging Face id owner/name[@revision], or random:NAME", "tiny-neox")
  .option("--revision <revision>", "commit, branch or tag of a Hugging Face model (default: main)")
  .addOption(new Option("--weights <format>", "number format of the weights (default: as stored)").choices(["auto", "f32", "f16", "bf16"]))
  .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, or part of an adapter's name (default: auto)")
  .option("--budget <seconds>", "time for the search (default: 30, on the software adapter 2)", parseNumber)
  .option("--json", "print one JSON object")
  .action(async (flags) => { exitCode = await (await import("./commands/tune.ts")).tune(flags); });

program.command("plan")
  .description("say what a model will take of GPU memory and whether it fits, before anything is loaded; leaves with 4 when it does not fit")
  .argument("<model>", "a folder, a bundled name, a Hugging Face id owner/name[@revision] (only its config.json is downloaded), or random:NAME")
  .option("--revision <revision>", "commit, branch or tag of a Hugging Face model (default: main)")
  .option("--weights <format>", "number format of the weights (default: auto, as stored)")
  .option("--kv <format>", "number format of the KV cache (default: f16)")
  .option("--context <tokens>", "longest prompt and continuation together (default: what the model allows, at most 4096)", parseNumber)
  .option("--batch <count>", "most sequences at a time (default: 16)", parseNumber)
  .option("--prefill-chunk <tokens>", "most prompt tokens in one pass (default: 256)", parseNumber)
  .option("--kv-memory <bytes>", "memory for keys and values (default: enough for 8 sequences, at most 1 GiB)", parseBytes)
  .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, part of an adapter's name, or none to plan for another machine", "auto")
  .option("--max-binding <bytes>", "with --adapter none: its maxStorageBufferBindingSize (default: 128MiB)", parseBytes)
  .option("--max-buffer <bytes>", "with --adapter none: its maxBufferSize (default: 256MiB, or --max-binding)", parseBytes)
  .option("--memory <bytes>", "judge against this much memory, such as 24GB", parseBytes)
  .option("--json", "print one JSON object")
  .action(async (model: string, flags) => { exitCode = await (await import("./commands/plan.ts")).plan(model, flags); });

program.command("convert")
  .description("write a checkpoint in another number format to a new folder; what is quantized loads in Python's bitsandbytes too")
  .argument("<model>", "a folder, a bundled name, or a Hugging Face id owner/name[@revision]")
  .addOption(new Option("--weights <format>", "number format of the matrices of every layer; embeddings, output head and vectors stay in floats")
    .choices(["f32", "f16", "bf16", "int8", "nf4", "nf4-double", "fp4", "fp4-double"]).makeOptionMandatory())
  .requiredOption("--out <folder>", "the folder to write, new or empty")
  .option("--revision <revision>", "commit, branch or tag of a Hugging Face model (default: main)")
  .option("--json", "print one JSON object")
  .action(async (model: string, flags) => { exitCode = await (await import("./commands/convert.ts")).convert(model, flags); });

program.command("doctor")
  .description("say what this machine has, how fast it is, and what is missing with the fix")
  .option("--adapter <name>", "examine this adapter: auto, software, an index, or part of a name", "auto")
  .option("--json", "print one JSON object")
  .action(async (flags) => { exitCode = await (await import("./commands/doctor.ts")).doctor(flags); });

/** Commander's words for a wrong command line, on one line and without its prefix. */
function usageMessage(text: string): string {
  const message = oneLine(text.replace(/^error: /, "")).replace(/\.$/, "");
  return message.startsWith("too many arguments for 'generate'") ? `${message}; put the prompt in quotes` : message;
}

guardProcess();
try {
  await program.parseAsync(normaliseArgv(process.argv.slice(2), program), { from: "user" });
  process.exitCode = exitCode;
} catch (error) {
  process.exitCode = reportFailure(error, program.opts()["debug"] === true);
}
