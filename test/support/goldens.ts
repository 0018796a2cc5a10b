/**
 * The goldens of test/fixtures/goldens: what Hugging Face transformers, run in double precision, says about tiny checkpoints of every
 * variant we run and about the bundled models. fixtures/make_goldens.py wrote them; here they are read, nothing is computed.
 */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export interface GoldenVariant {
  readonly name: string;
  /** The checkpoint: config.json and model.safetensors, or its shards and their index. */
  readonly folder: string;
  readonly vocabSize: number;
  readonly prompts: readonly GoldenPrompt[];
  /** Greedy decoding; the end-of-text token does not end it. */
  readonly greedy: readonly { readonly prompt: readonly number[]; readonly continuation: readonly number[] }[];
}

export interface GoldenPrompt {
  readonly ids: readonly number[];
  /** Row 0 of `logits` belongs to ids[firstRow]: 0 for the tiny checkpoints; the bundled models keep only their last rows. */
  readonly firstRow: number;
  /** [ids.length - firstRow, vocabSize] */
  readonly logits: Float32Array;
}

interface GoldenFile {
  readonly checkpoint: string;
  readonly vocabSize: number;
  readonly prompts: readonly { readonly firstRow: number; readonly ids: readonly number[] }[];
  readonly greedy: GoldenVariant["greedy"];
}

const GOLDENS = fileURLToPath(new URL("../fixtures/goldens", import.meta.url));

/** All goldens, sorted by name. Throws when golden.f32 does not hold exactly the rows that golden.json announces. */
export function goldenVariants(): GoldenVariant[] {
  const names = readdirSync(GOLDENS).filter((name) => existsSync(join(GOLDENS, name, "golden.json"))).sort();
  if (names.length === 0) throw new Error(`no goldens in ${GOLDENS}: run test/fixtures/make_goldens.py`);
  return names.map(readGolden);
}

function readGolden(name: string): GoldenVariant {
  const folder = join(GOLDENS, name);
  const { checkpoint, vocabSize, prompts, greedy } = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8")) as GoldenFile;
  const bytes = readFileSync(join(folder, "golden.f32"));
  const values = new Float32Array(new Uint8Array(bytes).buffer); // copied: a Buffer may start at any byte of a pool
  let start = 0;
  const withLogits = prompts.map(({ firstRow, ids }) => {
    const logits = values.subarray(start, start + (ids.length - firstRow) * vocabSize);
    start += (ids.length - firstRow) * vocabSize;
    return { ids, firstRow, logits };
  });
  if (start !== values.length) throw new Error(`${folder}: golden.f32 has ${values.length} numbers, golden.json speaks of ${start}`);
  return { name, folder: join(folder, checkpoint), vocabSize, prompts: withLogits, greedy };
}
