/** The words of a language by its name in a config. */

import { en, type Words } from "./en.ts";
import { zh } from "./zh.ts";

export const LANGUAGES: Readonly<Record<"en" | "zh", Words>> = { en, zh };
