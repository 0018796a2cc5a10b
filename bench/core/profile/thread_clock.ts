/**
 * The CPU time of this thread. Node's own `process.threadCpuUsage` moves in steps of a scheduler tick (4 ms), which is longer than a
 * whole decode step; the exact clock of the system is reached through WASI, whose `clock_time_get` asks for CLOCK_THREAD_CPUTIME_ID.
 */

/** (module (memory (export "memory") 1) (func (export "_initialize"))): WASI answers into the memory of an instance. */
const MODULE = [
  0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 5, 3, 1, 0, 1,
  7, 24, 2, 6, ...Buffer.from("memory"), 2, 0, 11, ...Buffer.from("_initialize"), 0, 0, 0x0a, 4, 1, 2, 0, 0x0b,
];
const THREAD_CPUTIME = 3;

/** Node has it, but its types come with those of a browser, which are not loaded here. */
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: { instantiate(bytes: Uint8Array): Promise<{ readonly instance: { readonly exports: { readonly memory: { readonly buffer: ArrayBuffer } } } }> };
};

const CALIBRATION = 2000;

export interface ThreadClock {
  /** Milliseconds of CPU time that this thread has had. */
  readonly now: () => number;
  /** What one reading adds to the time between it and the next, in milliseconds. */
  readonly cost: number;
  /** Whether it is CPU time; false where the system has no such clock, and wall time stands in. */
  readonly isCpu: boolean;
}

export async function threadClock(): Promise<ThreadClock> {
  const read = await wasiClock().catch(() => null);
  const now = read ?? (() => performance.now());
  const gaps = Array.from({ length: CALIBRATION }, () => -now() + now()).sort((a, b) => a - b);
  return { now, cost: gaps[CALIBRATION / 2]!, isCpu: read !== null };
}

async function wasiClock(): Promise<(() => number) | null> {
  const { emitWarning } = process;
  process.emitWarning = () => {}; // that WASI is experimental is nothing a user of the profile must act on
  try {
    const { WASI } = await import("node:wasi");
    const wasi = new WASI({ version: "preview1" });
    const { instance } = await WebAssembly.instantiate(Uint8Array.from(MODULE));
    wasi.initialize(instance);
    const answer = new DataView(instance.exports.memory.buffer);
    const ask = wasi.wasiImport["clock_time_get"] as (clock: number, precision: bigint, pointer: number) => number;
    if (ask(THREAD_CPUTIME, 1n, 0) !== 0) return null;
    return () => {
      ask(THREAD_CPUTIME, 1n, 0);
      return Number(answer.getBigUint64(0, true)) / 1e6;
    };
  } finally {
    process.emitWarning = emitWarning;
  }
}
