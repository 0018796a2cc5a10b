/**
 * The JSON Schema of an experiment's YAML file, for editors: made of the one table that also checks it (schema.ts), so it cannot say
 * anything else. Published as configs/schema.json, which every config names in its first line.
 */

import { z } from "zod";
import { ARM_SETTINGS, DEFAULTS, FIELDS, KEYS, keysOf, TECHNIQUES, type Key } from "./schema.ts";

export function jsonSchema(): Record<string, unknown> {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema", title: "An experiment of dawnlm",
    description: "node bench/run.ts --config FILE; a key that would have no effect on the technique is refused",
    type: "object", additionalProperties: false, required: ["experiment_name"],
    properties: Object.fromEntries(KEYS.map((key) => [key, propertyOf(key)])),
    // What a technique does not look at is refused in its files.
    allOf: TECHNIQUES.map((technique) => ({
      if: { properties: { technique: { const: technique } }, ...(technique !== DEFAULTS.technique && { required: ["technique"] }) },
      then: { properties: Object.fromEntries(KEYS.filter((key) => !keysOf(technique).includes(key)).map((key) => [key, false])) },
    })),
  };
}

function propertyOf(key: Key): Record<string, unknown> {
  const [type, words] = FIELDS[key];
  // What an arm sets is checked arm by arm (combos/problems.ts), so that all that is wrong is told at once; editors get the table itself.
  const described = { description: words, ...schemaOf(type), ...(key === "arms" && { additionalProperties: schemaOf(ARM_SETTINGS), minProperties: 2 }) };
  return Object.hasOwn(DEFAULTS, key) ? { ...described, default: DEFAULTS[key as keyof typeof DEFAULTS] } : described;
}

function schemaOf(type: z.ZodType): Record<string, unknown> {
  const { $schema: _schema, ...schema } = z.toJSONSchema(type, { io: "input" }) as Record<string, unknown>;
  return schema;
}
