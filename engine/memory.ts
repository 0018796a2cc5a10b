/**
 * The ledger: every byte of GPU memory has an owner, so current and peak use per category are exact on every vendor,
 * where WebGPU itself tells nothing. After everything is closed it reads zero, and a test says so.
 */

export const CATEGORIES = ["weights", "kv", "activations", "logits", "staging"] as const;
export type Category = (typeof CATEGORIES)[number];
export type LedgerBytes = Record<Category | "total", number>;

/** Bytes that a buffer of `bytes` takes: buffers are made in steps of 16. */
export function bufferBytes(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

export class Ledger {
  #current: LedgerBytes = zero();
  #peak: LedgerBytes = zero();

  add(category: Category, bytes: number): void {
    this.#current[category] += bytes;
    this.#current.total += bytes;
    for (const key of [category, "total"] as const) this.#peak[key] = Math.max(this.#peak[key], this.#current[key]);
  }

  remove(category: Category, bytes: number): void {
    this.#current[category] -= bytes;
    this.#current.total -= bytes;
    if (this.#current[category] < 0) throw new Error(`ledger: ${category} freed more than it had`);
  }

  /** Bytes in use now, and the highest each category (and their sum) has been since the last `resetPeak`. */
  report(): LedgerBytes & { peak: LedgerBytes } {
    return { ...this.#current, peak: { ...this.#peak } };
  }

  resetPeak(): void {
    this.#peak = { ...this.#current };
  }
}

function zero(): LedgerBytes {
  return { weights: 0, kv: 0, activations: 0, logits: 0, staging: 0, total: 0 };
}
