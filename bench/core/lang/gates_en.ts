/** English: what gates say when they close. */

const shown = (value: number | null): string => (value === null ? "another place" : String(value));

export const gatesEn = {
  otherRequests: (own: number, base: number) => `it ran ${own} requests, its baseline ${base}: they did not do the same work`,
  otherPrompt: (request: number, own: number, base: number) => `request ${request} has a prompt of ${own} tokens, in the baseline ${base}: they did not do the same work`,
  otherLength: (request: number, own: number, base: number) =>
    `request ${request} wrote ${own} tokens, in the baseline ${base}: they did not do the same work (let every text run to its length: ignore_eos true)`,
  entriesNoSmaller: (format: string, own: number, base: number) => `an entry of the cache takes ${own} bytes in ${format}, ${base} in the baseline: quantizing it saved nothing`,
  clipped: (axis: string, low: number | null) => `the bars of "${axis}" begin at ${shown(low)}, not at zero: their lengths would show a ratio that is not there`,
};
