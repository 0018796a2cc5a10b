/** Configs and command lines of experiments as tests give them: as text, with flags, or as argv. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { normaliseArgv } from "../../bench/core/cli.ts";
import { loadConfig, type ConfigRequest, type LoadedConfig } from "../../bench/core/config.ts";
import { program, requestOf } from "../../bench/core/flags.ts";
import { UsageError } from "../../engine/errors.ts";

const folder = mkdtempSync(join(tmpdir(), "dawnlm-config-"));
process.on("exit", () => { rmSync(folder, { recursive: true }); });

export function load(text: string, flags: ConfigRequest["flags"] = {}): LoadedConfig {
  const config = join(folder, "x.yaml");
  writeFileSync(config, text);
  return loadConfig({ flags, config });
}

/** Why a config is refused; fails when it is not, or not as a user's mistake. */
export function refused(text: string, flags: ConfigRequest["flags"] = {}): string {
  try {
    load(text, flags);
  } catch (error) {
    assert.instance(error, UsageError, String((error as Error).stack));
    return (error as Error).message.replaceAll(`${folder}/`, "");
  }
  return assert.unreachable("it was accepted") as never;
}

export function parse(...argv: string[]): LoadedConfig {
  const command = program();
  command.parse(normaliseArgv(argv, command), { from: "user" });
  return loadConfig(requestOf(command.opts()));
}
