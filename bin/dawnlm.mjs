#!/usr/bin/env node
/** The command `dawnlm` as an older Node can read it; what it does is in dawnlm.ts. */

import { fileURLToPath } from "node:url";
import { enter } from "../scripts/enter.mjs";

await enter(fileURLToPath(import.meta.url), fileURLToPath(new URL("./dawnlm.ts", import.meta.url)));
