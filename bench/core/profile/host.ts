/**
 * Where the host's time goes while tokens are decoded. Neither wall time nor the process's CPU time tells: the first is mostly waiting
 * for the device, and the second holds the threads of a software adapter. Nor does the CPU time of this thread as a whole, because Dawn
 * under Node asks for finished work again and again while it waits (it calls `setImmediate` from itself). So the work is bracketed:
 *
 *   a *turn* begins when Dawn looks for finished work and finds some, and ends when every callback and promise that followed has run.
 *
 * Turns are measured in CPU time of this thread (thread_clock.ts), so that waiting for a core which the device's threads hold is no work.
 * Within a turn the calls to WebGPU are timed by kind, a compute pass from its begin to its end as one, so that a dispatch has no clock
 * around it; what is left is our own bookkeeping. What reading the clock costs is taken off.
 */

import { asPoll } from "../../../engine/polling.ts";
import type { ThreadClock } from "./thread_clock.ts";

export const KINDS = ["poll", "read", "encode", "submit", "map", "write", "other"] as const;
export type Kind = (typeof KINDS)[number];

/** `poll`: the look that found something, up to the first call; `read`: mapped range and unmap; `map`: asking for the next. */
export const KIND_NAMES: Readonly<Record<Kind, string>> = {
  poll: "Dawn delivers a result", read: "read the token", encode: "encode the step", submit: "submit", map: "ask for the token", write: "writeBuffer",
  other: "bookkeeping (scheduler, requests, text, promises)",
};

export interface Turn {
  /** Wall clock, in milliseconds of performance.now(). */
  readonly start: number;
  readonly end: number;
  /** Milliseconds of CPU time of this thread, by kind. */
  readonly spent: Readonly<Record<Kind, number>>;
}

type Method = (this: unknown, ...args: unknown[]) => unknown;
interface Patch { readonly owner: Record<string, Method>; readonly name: string; readonly original: Method; readonly own: boolean }

/** What is timed, call by call; the calls within a pass are not. */
const TIMED: readonly (readonly [owner: string, kind: Kind, ...names: string[]])[] = [
  ["GPUBuffer", "read", "getMappedRange", "unmap"], ["GPUBuffer", "map", "mapAsync"],
  ["GPUQueue", "submit", "submit"], ["GPUQueue", "write", "writeBuffer"],
  ["GPUDevice", "encode", "createCommandEncoder"], ["GPUCommandEncoder", "encode", "copyBufferToBuffer", "finish"],
];
const COUNTED: readonly (readonly [owner: string, ...names: string[]])[] = [
  ["GPUBuffer", "getMappedRange", "unmap", "mapAsync"], ["GPUQueue", "submit", "writeBuffer"],
  ["GPUDevice", "createCommandEncoder", "createBindGroup", "createBuffer"], ["GPUCommandEncoder", "beginComputePass", "copyBufferToBuffer", "finish"],
  ["GPUComputePassEncoder", "setPipeline", "setBindGroup", "dispatchWorkgroups", "end"],
];

class Patches {
  readonly #done: Patch[] = [];

  /** Replace a method by what `around` makes of it. The classes of WebGPU are global once Dawn is loaded. */
  wrap(owner: string, name: string, around: (original: Method) => Method): void {
    const methods = (globalThis as unknown as Record<string, { prototype: Record<string, Method> }>)[owner]!.prototype;
    this.replace(methods, name, around);
  }

  replace(owner: Record<string, Method>, name: string, around: (original: Method) => Method): void {
    const original = owner[name]!;
    this.#done.push({ owner, name, original, own: Object.hasOwn(owner, name) });
    owner[name] = around(original);
  }

  undo(): void {
    for (const { owner, name, original, own } of this.#done.reverse()) {
      if (own) owner[name] = original;
      else delete owner[name];
    }
  }
}

/** Time every turn while `body` runs. A device must be open. `polls`: how often Dawn looked for finished work. */
export async function timeTurns<T>({ now, cost }: ThreadClock, body: () => Promise<T>): Promise<{ result: T; turns: readonly Turn[]; polls: number }> {
  const patches = new Patches();
  const turns: Turn[] = [];
  let spent: Record<Kind, number> | null = null;
  /** When this turn began, on both clocks; when Dawn looked last; up to where the turn's time is accounted for. */
  let start = 0, looked: { wall: number; cpu: number } | null = null, accounted = 0, polls = 0;

  const account = (kind: Kind): void => {
    const time = now();
    spent![kind] += Math.max(0, time - accounted - cost);
    accounted = time;
  };
  const close = (): void => {
    account("other");
    turns.push({ start, end: performance.now(), spent: spent! });
    spent = looked = null;
  };
  const open = (): void => {
    spent = { poll: 0, read: 0, encode: 0, submit: 0, map: 0, write: 0, other: 0 };
    start = looked?.wall ?? performance.now();
    accounted = looked?.cpu ?? now();
    process.nextTick(close); // runs when no promise is left to go on in this turn
    if (looked !== null) account("poll");
  };
  /** Before a timed call, and after it. */
  const enter = (): void => {
    if (spent === null) open();
    else account("other");
  };
  const timed = (kind: Kind) => (original: Method): Method => function (this: unknown, ...args) {
    enter();
    try {
      return original.apply(this, args);
    } finally {
      account(kind);
    }
  };

  for (const [owner, kind, ...names] of TIMED) for (const name of names) patches.wrap(owner, name, timed(kind));
  patches.wrap("GPUCommandEncoder", "beginComputePass", (original) => function (this: unknown, ...args) {
    enter();
    return original.apply(this, args);
  });
  patches.wrap("GPUComputePassEncoder", "end", (original) => function (this: unknown, ...args) {
    const ended = original.apply(this, args);
    account("encode");
    return ended;
  });
  patches.replace(globalThis as unknown as Record<string, Method>, "setImmediate", (original) => (callback, ...args) => {
    return original(asPoll((...given: unknown[]) => {
      polls++;
      looked = { wall: performance.now(), cpu: now() };
      (callback as Method)(...given);
    }), ...args);
  });
  try {
    return { result: await body(), turns, polls };
  } finally {
    patches.undo();
  }
}

/** Count the calls to WebGPU while `body` runs, by name. */
export async function countCalls<T>(body: () => Promise<T>): Promise<{ result: T; calls: ReadonlyMap<string, number> }> {
  const patches = new Patches();
  const calls = new Map<string, number>();
  for (const [owner, ...names] of COUNTED) {
    for (const name of names) {
      patches.wrap(owner, name, (original) => function (this: unknown, ...args) {
        calls.set(name, (calls.get(name) ?? 0) + 1);
        return original.apply(this, args);
      });
    }
  }
  try {
    return { result: await body(), calls };
  } finally {
    patches.undo();
  }
}

export interface HostTime {
  /** µs of CPU time of this thread per decoded token, in all and by kind. */
  readonly perToken: number;
  readonly byKind: Readonly<Record<Kind, number>>;
  /** The same turns on the wall: more where the thread had to wait for a core. */
  readonly wallPerToken: number;
  readonly turnsPerToken: number;
}

/** The turns between two moments of performance.now(), per token decoded between them; null when there is none. */
export function hostTime(turns: readonly Turn[], from: number, to: number, tokens: number): HostTime | null {
  const within = turns.filter(({ start, end }) => start >= from && end <= to);
  if (tokens <= 0 || within.length === 0) return null;
  const micros = (of: (turn: Turn) => number): number => (1000 * within.reduce((sum, turn) => sum + of(turn), 0)) / tokens;
  const byKind = Object.fromEntries(KINDS.map((kind) => [kind, micros(({ spent }) => spent[kind])])) as Record<Kind, number>;
  return {
    perToken: KINDS.reduce((sum, kind) => sum + byKind[kind], 0), byKind,
    wallPerToken: micros(({ start, end }) => end - start), turnsPerToken: within.length / tokens,
  };
}
