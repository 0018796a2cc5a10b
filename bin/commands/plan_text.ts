/** The report of `dawnlm plan` as a page for people; the verdict comes last, where the eye ends. */

import type { PlannedAdapter, PlanReport } from "./plan.ts";

export function planText(report: PlanReport): string {
  const { model, options, notes, footprint: { memory, peak, loadStaging, groups, kv, onDemand }, verdict } = report;
  const rows: (readonly string[])[] = [
    ["category", "bytes", "MiB", ""],
    row("weights", memory.weights),
    ...groups.filter(({ bytes }) => bytes > 0).map(({ group, bytes, parameters, formats }) => {
      const held = formats.length === 0 ? "" : ` (${formats.join(", ")})`;
      return row(`  ${group}`, bytes, `${count(parameters)} parameters, ${(bytes / parameters).toFixed(3)} bytes each${held}`);
    }),
    row("kv", memory.kv, `${count(kv.poolBytes)} of them keys and values, ${count(kv.tokenBytes)} a token${kv.recentBytes > 0 ? ` beside ${count(kv.recentBytes)} for the newest` : ""}`),
    row("activations", memory.activations), row("logits", memory.logits),
    row("staging", memory.staging, loadStaging > memory.staging ? `up to ${count(loadStaging)} while loading` : ""),
    row("total", memory.total),
    row("highest", peak.total, peak.total > memory.total ? "while loading" : "from loading to the last token"),
  ];
  const { batch, context } = options;
  const pool = options.kvMemory === null ? "default" : "--kv-memory";
  const sequences = (number: number): string => `${number} sequence${number === 1 ? "" : "s"} of ${context} tokens`;
  const page = [
    `${model.id}: ${model.architecture}, ${count(model.parameters)} parameters, ${model.layers} layers, ${model.kvHeads} KV heads of ${model.headDim}`,
    adapterLine(report.adapter),
    `weights ${options.weights}, kv ${inWords(options.kv)}, context ${context}, batch ${batch}, prompts in chunks of ${options.prefillChunk}`,
    ...notes.map((note) => `Note: ${note}.`),
    "", table(rows), "",
    `Keys and values of ${sequences(batch)} take ${count(kv.batchBytes)} bytes; the pool (${pool}) holds ${sequences(kv.sequences)}.`,
    `Only when asked for: ${onDemand.map(({ what, bytes }) => `${what} ${count(bytes)} bytes`).join("; ")}.`,
    "", ...verdictLines(verdict),
  ];
  return `${page.join("\n")}\n`;
}

function verdictLines({ fits, against, reasons, advice }: PlanReport["verdict"]): string[] {
  const first = !fits ? `Does not fit: ${reasons.join("; ")}.`
    : against === null ? "Fits the limits of the adapter. WebGPU does not tell how much memory there is: hold the highest number against it, or give --memory."
    : `Fits: ${count(against.bytes)} bytes ${against.what}.`;
  return [first, ...advice.map((line) => `  ${line}`)];
}

function adapterLine({ adapter, maxBinding, maxBuffer }: PlannedAdapter): string {
  const limits = `a buffer has at most ${count(maxBuffer)} bytes (maxBufferSize), a kernel sees at most ${count(maxBinding)} of it (maxStorageBufferBindingSize)`;
  if (adapter === null) return `no adapter, limits assumed: ${limits}`;
  const name = [adapter.vendor, adapter.device, adapter.description].filter((part) => part !== "").join(" ");
  return `${name} (${adapter.backend}${adapter.software ? ", software: runs on the CPU" : ""}): ${limits}`;
}

function inWords(kv: PlanReport["options"]["kv"]): string {
  return typeof kv === "string" ? kv : JSON.stringify(kv);
}

function row(name: string, bytes: number, note = ""): readonly string[] {
  return [name, count(bytes), (bytes / 2 ** 20).toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 }), note];
}

function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** Names to the left, numbers to the right, notes as they are. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((cells) => cells[column]!.length)));
  return rows.map(([name, bytes, mib, note]) =>
    `  ${name!.padEnd(widths[0]!)}  ${bytes!.padStart(widths[1]!)}  ${mib!.padStart(widths[2]!)}  ${note}`.trimEnd()).join("\n");
}
