/**
 * `convert` against what transformers and bitsandbytes saved from the same floats: every tensor the same to the byte. And what is
 * refused, after which nothing is left behind.
 */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { pythonFloat } from "../../engine/bitsandbytes_writer.ts";
import { Checkpoint } from "../../engine/checkpoint.ts";
import { convert, numberToBf16 } from "../../engine/dtype.ts";
import { AbortedError, DawnlmError, ModelFileError, UsageError } from "../../engine/errors.ts";
import { openQuantized } from "../../engine/quantized_checkpoint.ts";
import { writeSafetensors } from "../../engine/safetensors_writer.ts";
import { readConfig } from "../../models/config.ts";
import { convertCheckpoint, type ConvertFormat } from "../../models/convert.ts";
import { encodeBlockwise } from "../../kernels/reference/quantize.ts";
import { GOLDENS, numbersOf, QUANTIZED_CHECKPOINTS, quantizedFolder, sourceOf, tensorsOfFile, type QuantizedName, type Tensors } from "../support/quantized.ts";
import { rejects } from "../support/rejects.ts";

const temporary = mkdtempSync(join(tmpdir(), "dawnlm-convert-"));
test.after(() => rmSync(temporary, { recursive: true, force: true }));

let made = 0;
/** A folder of its own for what a test writes. */
function newPlace(): string {
  const place = join(temporary, String(made++));
  mkdirSync(place);
  return place;
}

/** All tensors of a folder, whatever its files. */
async function tensorsOf(folder: string): Promise<Tensors> {
  const checkpoint = await Checkpoint.open(folder);
  await checkpoint.close();
  const all: Tensors = new Map();
  for (const file of checkpoint.files) for (const [name, tensor] of await tensorsOfFile(join(folder, file))) all.set(name, tensor);
  return all;
}

function sameTensors(found: Tensors, wanted: Tensors): void {
  assert.equal([...found.keys()].sort(), [...wanted.keys()].sort());
  for (const [name, { dtype, shape, data }] of wanted) {
    const ours = found.get(name)!;
    assert.equal([ours.dtype, ours.shape], [dtype, shape], name);
    assert.ok(Buffer.compare(ours.data, data) === 0, `${name}: other bytes`);
  }
}

const jsonOf = (folder: string): Record<string, unknown> => JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<string, unknown>;

for (const [name, source] of Object.entries(QUANTIZED_CHECKPOINTS)) {
  if (source === null) continue;
  const weights = name.slice(name.indexOf("-") + 1) as ConvertFormat;
  test(`${source} to ${weights}: tensor by tensor what transformers saved`, async () => {
    const out = join(newPlace(), "deep", "new");
    const report = await convertCheckpoint(join(GOLDENS, source), { weights, out });
    const saved = quantizedFolder(name as QuantizedName);
    const tensors = await tensorsOf(out);
    sameTensors(tensors, await tensorsOf(saved));
    assert.equal(readdirSync(out).sort(), ["config.json", "model.safetensors"]);
    assert.is(report.matrices, name.startsWith("neox") ? 8 : 14);
    assert.is(report.bytesAfter, [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0));
    assert.equal(readdirSync(join(out, "..")), ["new"]);

    const { quantization_config: quantization, ...rest } = jsonOf(out);
    assert.equal(quantization, jsonOf(saved).quantization_config);
    assert.equal(rest, jsonOf(join(GOLDENS, source)));
    const text = readFileSync(join(out, "config.json"), "utf8");
    assert.match(text, /"llm_int8_threshold": 6\.0,/); // transformers refuses a 6
    if (name.startsWith("neox")) assert.match(text, /"attention_dropout": 0\.0,/);

    const { stored } = (await readConfig(out)).quantization!;
    const ours = await openQuantized(sourceOf(tensors), stored);
    const theirs = await openQuantized(sourceOf(await tensorsOf(saved)), stored);
    assert.equal([...ours.matrices.keys()].sort(), [...theirs.matrices.keys()].sort());
    for (const matrix of ours.matrices.keys()) assert.equal(await ours.read(matrix), await theirs.read(matrix));
  });
}

test("tensors lie aligned to their elements, whatever stands before them", async () => {
  const out = join(newPlace(), "new");
  await convertCheckpoint(join(GOLDENS, "qwen2-gqa-tied-bf16"), { weights: "nf4-double", out });
  const bytes = { F32: 4, BF16: 2 } as Record<string, number>;
  const checkpoint = await Checkpoint.open(out);
  await checkpoint.close();
  for (const { name, dtype, byteOffset } of checkpoint.tensors.values()) assert.is(byteOffset % (bytes[dtype] ?? 1), 0, name);
});

test("floats to floats: every tensor rounded to nearest, the config saying so in the key it has", async () => {
  for (const [source, weights, key] of [
    ["neox-parallel", "bf16", "torch_dtype"], ["neox-parallel", "f16", "torch_dtype"], ["qwen2-gqa-tied-bf16", "f32", "dtype"], ["qwen2-mqa", "f16", "torch_dtype"],
  ] as const) {
    const out = join(newPlace(), "new");
    const report = await convertCheckpoint(join(GOLDENS, source), { weights, out });
    assert.is(report.matrices, 0);
    const before = await tensorsOf(join(GOLDENS, source));
    const after = await tensorsOf(out);
    assert.is(after.size, before.size);
    for (const [name, { dtype, shape, data }] of before) {
      const wanted = convert(data, dtype.toLowerCase() as "f32", weights);
      assert.equal(after.get(name), { name, dtype: weights.toUpperCase(), shape, data: wanted });
    }
    const torch = { f32: "float32", f16: "float16", bf16: "bfloat16" }[weights];
    assert.equal(jsonOf(out), { ...jsonOf(join(GOLDENS, source)), [key]: torch });
  }
});

test("files beyond the limit become shards with an index; a matrix and its scales share one", async () => {
  const out = join(newPlace(), "new");
  const { files } = await convertCheckpoint(join(GOLDENS, "neox-parallel"), { weights: "nf4-double", out, maxShardBytes: 30_000 });
  assert.ok(files.length > 2);
  assert.is(files[0], `model-00001-of-${String(files.length).padStart(5, "0")}.safetensors`);
  sameTensors(await tensorsOf(out), await tensorsOf(quantizedFolder("neox-nf4-double")));
  const index = JSON.parse(readFileSync(join(out, "model.safetensors.index.json"), "utf8")) as { metadata: { total_size: number }; weight_map: Record<string, string> };
  assert.is(index.metadata.total_size, [...(await tensorsOf(out)).values()].reduce((sum, { data }) => sum + data.byteLength, 0));
  for (const [name, file] of Object.entries(index.weight_map)) {
    const weight = /^(.*\.weight)\./.exec(name)?.[1];
    if (weight !== undefined) assert.is(file, index.weight_map[weight], name);
  }
});

test("a bundled model: tokenizer and generation settings come along, and into an empty folder", async () => {
  const source = fileURLToPath(new URL("../../assets/models/tiny-neox-draft", import.meta.url));
  const out = join(newPlace(), "new");
  mkdirSync(out);
  const seen: string[] = [];
  await convertCheckpoint(source, { weights: "nf4", out, onProgress: (label, loaded, total) => { seen.push(label); assert.ok(loaded <= total); } });
  assert.equal(readdirSync(out).sort(), readdirSync(source).sort());
  for (const name of ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]) {
    assert.is(Buffer.compare(readFileSync(join(out, name)), readFileSync(join(source, name))), 0);
  }
  assert.ok(seen.length > 20 && seen.at(-1) === "weights");
  const before = await tensorsOf(source);
  const { read, matrices } = await openQuantized(sourceOf(await tensorsOf(out)), { method: "bitsandbytes", bits: 4 });
  for (const [name, { shape: [rows, columns] }] of matrices) {
    assert.equal(await read(name), { format: "nf4", rows, columns, blockSize: 64, ...encodeBlockwise(numbersOf(before.get(name)!), "nf4", 64) });
  }
});

// --- what is refused ---------------------------------------------------------------------------------------------------------------

const DENSE = "gpt_neox.layers.1.attention.dense.weight";

/** A checkpoint like neox-parallel with some tensors changed. */
async function changed(change: (tensors: Tensors) => void, dtype: "f32" | "bf16" = "f32"): Promise<string> {
  const tensors = await tensorsOf(join(GOLDENS, "neox-parallel"));
  if (dtype === "bf16") for (const [name, tensor] of tensors) tensors.set(name, { ...tensor, dtype: "BF16", data: convert(tensor.data, "f32", "bf16") });
  change(tensors);
  const folder = join(newPlace(), "source");
  mkdirSync(folder);
  await writeSafetensors(join(folder, "model.safetensors"), tensors.values());
  writeFileSync(join(folder, "config.json"), readFileSync(join(GOLDENS, "neox-parallel", "config.json")));
  return folder;
}

const setF32 = (name: string, index: number, value: number) => (tensors: Tensors): void => {
  const { data } = tensors.get(name)!;
  new DataView(data.buffer, data.byteOffset).setFloat32(4 * index, value, true);
};

type Refusal = readonly [what: string, weights: ConvertFormat, change: (tensors: Tensors) => void, type: typeof UsageError | typeof ModelFileError, message: RegExp];
const REFUSED: readonly Refusal[] = [
  ["NaN", "nf4", setF32(DENSE, 130, NaN), ModelFileError, /layers\.1\.attention\.dense\.weight is NaN at \[2, 2\]: weights that are not finite cannot be quantized/],
  ["infinity", "int8", setF32(DENSE, 0, -Infinity), ModelFileError, /dense\.weight is -Infinity at \[0, 0\]/],
  ["beyond f16, in int8", "int8", setF32(DENSE, 5, 70000), UsageError, /values beyond the range of f16 \(65504\) would become infinite:\s+gpt_neox\.layers\.1\.attention\.dense\.weight: 1 values\s+Convert to bf16 or f32/],
  ["beyond f16, in f16", "f16", (t) => { setF32(DENSE, 5, 65520)(t); setF32("embed_out.weight", 1, -1e6)(t); setF32("embed_out.weight", 2, 1e9)(t); }, UsageError,
    /(?=.*dense\.weight: 1 values)(?=.*embed_out\.weight: 2 values)/s],
  ["magnitudes without a mean", "nf4-double", (t) => { for (let block = 0; block < 64; block++) setF32(DENSE, 64 * block, 3e38)(t); }, ModelFileError,
    /the magnitudes of gpt_neox\.layers\.1\.attention\.dense\.weight add up to more than f32 holds.*Convert to nf4/],
  ["a missing tensor", "nf4", (t) => t.delete(DENSE), ModelFileError, /does not fit its config\.json:\s+gpt_neox\.layers\.1\.attention\.dense\.weight: missing, expected shape \[64, 64\]/],
  ["another shape", "bf16", (t) => t.set(DENSE, { ...t.get(DENSE)!, shape: [32, 128] }), ModelFileError, /dense\.weight: expected shape \[64, 64\], found \[32, 128\]/],
  ["codes without a config for them", "nf4", (t) => t.set(DENSE, { ...t.get(DENSE)!, dtype: "U32" }), ModelFileError, /dense\.weight: dtype U32 is not supported/],
];

for (const [what, weights, change, type, message] of REFUSED) {
  test(`refused, with nothing left behind: ${what}`, async () => {
    const folder = await changed(change);
    const out = join(folder, "..", "new");
    const error = await convertCheckpoint(folder, { weights, out, maxShardBytes: 40_000 }).then(() => assert.unreachable("was converted"), (thrown: unknown) => thrown);
    assert.instance(error, type, String(error));
    assert.match((error as Error).message, message);
    assert.equal(readdirSync(join(folder, "..")), ["source"]);
  });
}

test("what is refused by one format is fine in another", async () => {
  const folder = await changed(setF32(DENSE, 5, 70000));
  await convertCheckpoint(folder, { weights: "nf4", out: join(folder, "..", "nf4") });
  await convertCheckpoint(folder, { weights: "bf16", out: join(folder, "..", "bf16") });
  const { data } = (await tensorsOf(join(folder, "..", "bf16"))).get(DENSE)!;
  assert.is(new DataView(data.buffer, data.byteOffset).getUint16(10, true), numberToBf16(70000));
});

test("a causal mask of an old checkpoint is copied as it is, though its values have no f16", async () => {
  const mask = { name: "gpt_neox.layers.0.attention.masked_bias", dtype: "F32", shape: [], data: new Uint8Array(Float32Array.of(-1e9).buffer) } as const;
  const folder = await changed((tensors) => tensors.set(mask.name, mask));
  await convertCheckpoint(folder, { weights: "f16", out: join(folder, "..", "f16") });
  const tensors = await tensorsOf(join(folder, "..", "f16"));
  assert.equal(tensors.get(mask.name), mask);
  assert.is(tensors.get(DENSE)!.dtype, "F16");
});

test("the largest f16 and what still rounds to it pass; int8 of bf16 too", async () => {
  const folder = await changed((tensors) => { setF32(DENSE, 5, 65519.99)(tensors); });
  await convertCheckpoint(folder, { weights: "int8", out: join(folder, "..", "int8") });
  const scb = numbersOf((await tensorsOf(join(folder, "..", "int8"))).get("gpt_neox.layers.1.attention.dense.SCB")!);
  assert.is(scb[0], 65504);
});

test("refused: a folder that has something in it, or is none", async () => {
  const place = newPlace();
  const source = join(GOLDENS, "neox-parallel");
  writeFileSync(join(place, "keep.txt"), "mine");
  await rejects(convertCheckpoint(source, { weights: "nf4", out: place }), UsageError, /is not empty \(it has keep\.txt\); give the name of a new folder/);
  await rejects(convertCheckpoint(source, { weights: "nf4", out: join(place, "keep.txt") }), UsageError, /keep\.txt is a file; give the name of a new folder/);
  await rejects(convertCheckpoint(source, { weights: "nf4", out: source }), UsageError, /neox-parallel is not empty/);
  const error = await convertCheckpoint(source, { weights: "nf4", out: join(place, "keep.txt", "new") }).catch((thrown: unknown) => thrown);
  assert.instance(error, DawnlmError);
  assert.match((error as Error).message, /cannot be written \((?:ENOTDIR|EEXIST)/);
  assert.equal(readdirSync(place), ["keep.txt"]);
  assert.is(readFileSync(join(place, "keep.txt"), "utf8"), "mine");
});

test("refused: what is quantized already", async () => {
  const out = join(newPlace(), "new");
  await rejects(convertCheckpoint(quantizedFolder("neox-nf4"), { weights: "int8", out }), UsageError, /is quantized already \(bitsandbytes\): .*convert the original/);
  await rejects(convertCheckpoint(quantizedFolder("qwen2-awq"), { weights: "f16", out }), UsageError, /is quantized already \(awq\)/);
  assert.not.ok(existsSync(out));
});

test("refused: a tokenizer file that is a link out of the folder", async () => {
  const folder = await changed(() => {});
  writeFileSync(join(folder, "..", "secret"), "secret");
  symlinkSync("../secret", join(folder, "tokenizer.json"));
  await rejects(convertCheckpoint(folder, { weights: "f32", out: join(folder, "..", "new") }), ModelFileError, /tokenizer\.json: is a link that leads out of the model's folder/);
  assert.equal(readdirSync(join(folder, "..")).sort(), ["secret", "source"]);
});

test("interrupted in the middle, nothing is left", async () => {
  const place = newPlace();
  const abort = new AbortController();
  const run = convertCheckpoint(join(GOLDENS, "neox-parallel"), {
    weights: "nf4", out: join(place, "new"), signal: abort.signal, onProgress: (_label, loaded) => { if (loaded > 50_000) abort.abort(); },
  });
  await rejects(run, AbortedError, /interrupted; nothing was written/);
  assert.equal(readdirSync(place), []);
});

test("numbers of a state are spelled as Python spells them", () => {
  const spelled: readonly [number, string][] = [[0.528261661529541, "0.528261661529541"], [1, "1.0"], [0, "0.0"], [-0, "-0.0"], [1e-5, "1e-05"], [0.0001, "0.0001"], [5e-324, "5e-324"],
    [1e16, "1e+16"], [1e15, "1000000000000000.0"], [123456789012345680, "1.2345678901234568e+17"], [-2.5e-7, "-2.5e-07"]];
  for (const [value, text] of spelled) assert.is(pythonFloat(value), text);
});

test.run();
