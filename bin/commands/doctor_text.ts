/** The report of `dawnlm doctor` as a page for people; what is missing comes last, where the eye ends. */

import type { ProbeFigure } from "../../engine/probe.ts";
import type { AdapterReport, DoctorReport } from "./doctor.ts";

type Rows = readonly (readonly string[])[];

export function doctorText(report: DoctorReport): string {
  const { node, platform, packages, adapters, features, limits, kernels, hub, missing } = report;
  const sections: [string, Rows][] = [
    ["System", [
      ["dawnlm", report.dawnlm],
      ["Node", `${node.version} (${node.needed} is needed: ${node.ok ? "ok" : "too old"})`],
      ["platform", `${platform.os} ${platform.release} ${platform.arch}`],
      ["machine", `${platform.cores} × ${platform.cpu}, ${size(platform.memoryBytes)} memory`],
      ["packages", Object.entries(packages).map(([name, version]) => `${name} ${version ?? "is not installed"}`).join(", ")],
    ]],
    ["Adapters", adapters.length === 0 ? [["none", ""]] : adapters.map((adapter) => adapterRow(adapter, report.adapter))],
    ["Features of the adapter in use", features.map(({ name, present, use }) => [name, present ? "yes" : "no", use])],
    ["Limits", limits.map(({ name, value, meaning }) => [name, value >= 2 ** 14 ? size(value) : String(value), meaning])],
    ["Kernels", kernels === null ? [] : [["family", kernels.family, kernels.why]]],
    ["Hugging Face", [
      ["cache", hub.cache ?? "unknown"],
      ["token", hub.token],
      ...(hub.offline ? [["offline", "yes: nothing is downloaded"]] : []),
      ...Object.entries(hub.variables),
    ]],
    ["Probe", probeRows(report)],
  ];
  const pages = sections.filter(([, rows]) => rows.length > 0).map(([title, rows]) => `${title}\n${table(rows)}`);
  const last = missing.length === 0 ? "Nothing is missing." : `Missing\n${missing.map(({ what, fix }) =>
    `  ${what}\n${fix.map((line) => `    ${line}`).join("\n")}`).join("\n")}`;
  return `${[...pages, last].join("\n\n")}\n`;
}

function adapterRow({ index, name, backend, software, auto, vendor, description, problem }: AdapterReport, used: number | null): string[] {
  const kind = software ? "software: runs on the CPU" : "GPU";
  const marks = [kind, ...(auto ? ["taken by auto"] : []), ...(index === used ? ["in use here"] : [])];
  return [String(index), name, backend, problem ?? [vendor, description].filter((part) => part !== "").join(": "), marks.join(", ")];
}

function probeRows({ probe }: DoctorReport): Rows {
  if (probe === null) return [];
  const row = (name: string, { value, repetitions }: ProbeFigure, unit: string, note: string): string[] =>
    [name, `${significant(value)} ${unit}`, `${note}; median of ${repetitions}`];
  return [
    row("copy", probe.copy, "GB/s", `read and written, buffers of ${size(probe.bufferBytes)}`),
    row("read", probe.read, "GB/s", "the roof for generating text"),
    row("multiply-add", probe.fma, "GFLOP/s", "f32, the roof for reading prompts"),
    row("dispatch", probe.dispatch, "µs", "each waits for the one before"),
    row("round trip", probe.roundTrip, "µs", "one dispatch and its result on the host"),
    ["taken", `${probe.seconds.toFixed(1)} s`, ""],
  ];
}

/** Columns as wide as their widest cell, the last as it is. */
function table(rows: Rows): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => { widths[i] = Math.max(widths[i] ?? 0, cell.length); });
  return rows.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ")}`.trimEnd()).join("\n");
}

function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${significant(bytes / 2 ** (10 * power))} ${units[power]}`;
}

/** Three digits, or all of a longer whole part. */
function significant(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3).replace(/\.0+$/, "");
}
