/**
 * The published JSON Schema: made of the table that checks configs, true to every config that comes along, and as strict as the program
 * about keys.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parse } from "yaml";
import { z } from "zod";
import { jsonSchema } from "../../bench/core/config_schema.ts";
import { DEFAULTS, FIELDS, KEYS, keysOf, TECHNIQUES, withoutEffect } from "../../bench/core/schema.ts";

const CONFIGS = fileURLToPath(new URL("../../configs", import.meta.url));
const FILES = readdirSync(CONFIGS, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".yaml")).sort();
const SCHEMA = JSON.parse(readFileSync(join(CONFIGS, "schema.json"), "utf8"));
const test = suite("config schema");

type Json = Record<string, any>;
type Part = Parameters<typeof z.fromJSONSchema>[0];
/** Its reader compiles patterns without the flag that \p needs, which editors give: letters of two scripts do here. */
const READABLE = JSON.parse(JSON.stringify(SCHEMA).replaceAll("\\\\p{L}\\\\p{N}", "0-9A-Za-z\\u4e00-\\u9fff")) as Json;
const { allOf: RULES, ...PLAIN } = READABLE;
const plain = z.fromJSONSchema(PLAIN as Part);
/** Zod reads a schema but for its conditions, and without a type it looks at nothing. */
const rules = (RULES as { if: Json; then: Json }[]).map((rule) => {
  const [condition, then] = [rule.if, rule.then].map((part) => z.fromJSONSchema({ type: "object", ...part } as Part));
  return { condition: condition!, then: then! };
});

/** Where a value does not keep to the schema. */
function faults(value: unknown): string[] {
  const of = (schema: z.ZodType): string[] =>
    schema.safeParse(value).error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`) ?? [];
  return [...of(plain), ...rules.flatMap(({ condition, then }) => (condition.safeParse(value).success ? of(then) : []))];
}

test("configs/schema.json is what --schema prints: write it anew with node bench/run.ts --schema > configs/schema.json", () => {
  assert.equal(SCHEMA, JSON.parse(JSON.stringify(jsonSchema())));
});

test("it knows every key, with its words and its default", () => {
  assert.equal(Object.keys(SCHEMA.properties), [...KEYS]);
  for (const key of KEYS) assert.is(SCHEMA.properties[key].description, FIELDS[key][1]);
  for (const [key, value] of Object.entries(DEFAULTS)) assert.equal(SCHEMA.properties[key].default, value, key);
});

test("every config that comes along keeps to it, and names it in its first line", () => {
  assert.ok(FILES.length > 40, `${FILES.length} configs`);
  for (const name of FILES) {
    const text = readFileSync(join(CONFIGS, name), "utf8");
    assert.is(text.split("\n", 1)[0], "# yaml-language-server: $schema=../schema.json", name);
    assert.equal(faults(parse(text)), [], name);
  }
});

test("of every technique it allows the keys that are looked at and refuses those that would do nothing", () => {
  for (const technique of TECHNIQUES) {
    const { then } = (RULES as Json[]).find((rule) => rule["if"].properties.technique.const === technique)!;
    const refused = Object.keys(then.properties);
    assert.equal(refused, withoutEffect(technique, KEYS).map(({ key }) => key));
    assert.equal(refused.filter((key) => keysOf(technique).includes(key as never)), []);
  }
});

test("what is wrong is refused: another technique's key, no name, unknown keys, values out of range", () => {
  const good = { experiment_name: "x", technique: "KVPress", presses: ["snapkv"] };
  assert.equal(faults(good), []);
  for (const wrong of [
    { ...good, technique: "combos" }, { ...good, technique: "PagedAttention" }, { experiment_name: "x", presses: ["snapkv"] },
    { ...good, quantize_to: "nf4" },
    { technique: "KVPress" }, { ...good, pressses: [] }, { ...good, ratios: [1] }, { ...good, max_tokens: 0 },
    { ...good, max_tokens: "8" }, { ...good, experiment_name: "a/b" },
    { ...good, presses: [] },
  ]) assert.ok(faults(wrong).length > 0, JSON.stringify(wrong));
});

test("arms of combinations: their names and settings are checked too", () => {
  const combos = (arms: unknown) => faults({ experiment_name: "x", technique: "combos", arms });
  const all = { weights: "nf4", kv: "int8", layout: "paged", press: "snapkv", ratio: 0.5, draft: "self:nf4", k: 4 };
  assert.equal(combos({ none: {}, "nf4 + 量化": all, adaptive: { draft: "x", k: "adaptive" } }), []);
  for (const wrong of [
    { none: {} }, { none: {}, nf4: { weigths: "nf4" } }, { none: {}, nf4: { weights: "nf5" } }, { none: {}, x: { k: 0 } }, { none: {},
      x: { ratio: 1 } }, { none: {}, x: null }, { none: {}, "a/b": {} },
  ]) assert.ok(combos(wrong).length > 0, JSON.stringify(wrong));
});

test.run();
