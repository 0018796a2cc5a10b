/**
 * How often Dawn looks whether the device has finished. Under Node it calls `setImmediate` from itself for as long as a promise of the
 * device is pending, thousands of times per millisecond of waiting. On a GPU that costs a core which has nothing else to do; on the
 * software adapter the core is the device's own, and a token takes up to 1.7 times as long. So while we wait for a software adapter, Dawn's
 * look is put off by a millisecond each time. Several steps are in flight then, and none of them is late.
 *
 * Dawn finds `setImmediate` on the global object at every look, which is where it is replaced; callbacks of anybody else pass through.
 */

type Callback = (...args: unknown[]) => void;

const POLL_MS = 1;

const polls = new WeakSet<Callback>();
let waiting = 0;
let installed = false;

/** Marks a callback that stands for Dawn's own look, for whoever measures by wrapping it. */
export function asPoll<T extends Callback>(callback: T): T {
  polls.add(callback);
  return callback;
}

/** Dawn's look is a native function, and so are bound ones: theirs are put off too, by no more than that millisecond. */
function isPoll(callback: Callback): boolean {
  return polls.has(callback) || Function.prototype.toString.call(callback).endsWith("{ [native code] }");
}

function install(): void {
  installed = true;
  const immediate = globalThis.setImmediate;
  const patient = (callback: Callback, ...args: unknown[]): unknown =>
    waiting > 0 && isPoll(callback) ? setTimeout(callback, POLL_MS, ...args) : immediate(callback, ...args);
  globalThis.setImmediate = Object.assign(patient, immediate) as typeof setImmediate; // keeps util.promisify's own version
}

/** Wait for a promise of the device; with `patience` without taking a core for it. */
export async function waited<T>(promise: Promise<T>, patience: boolean): Promise<T> {
  if (!patience) return promise;
  if (!installed) install();
  waiting++;
  try {
    return await promise;
  } finally {
    waiting--;
  }
}
