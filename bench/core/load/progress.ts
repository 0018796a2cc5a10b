/** A long wait on standard error: a bar on a terminal; elsewhere a line now and then, so that a log shows life. */

import { SingleBar } from "cli-progress";
import { withoutControls } from "../cli.ts";

const LINE_EVERY_MS = 5000;

export interface Progress { readonly onStep: (label: string, done: number, total: number) => void; readonly stop: () => void }

export function progress(): Progress {
  if (process.stderr.isTTY) {
    const bar = new SingleBar({ format: "[{bar}] {percentage}% {label}", stream: process.stderr, clearOnComplete: true, hideCursor: true });
    let shown = false;
    return {
      onStep: (label, done, total) => {
        const words = { label: withoutControls(label) };
        if (!shown) bar.start(total, done, words);
        shown = true;
        bar.setTotal(total);
        bar.update(done, words);
      },
      stop: () => {
        if (shown) bar.stop();
        shown = false;
      },
    };
  }
  let last = performance.now();
  return {
    onStep: (label, done, total) => {
      if (performance.now() - last < LINE_EVERY_MS || done === total) return;
      last = performance.now();
      process.stderr.write(`${Math.floor((100 * done) / total)} % ${withoutControls(label)}\n`);
    },
    stop: () => {},
  };
}
