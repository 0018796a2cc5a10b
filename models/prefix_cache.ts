/**
 * Which full blocks of earlier sequences are still in the cache, found by their tokens: a new sequence starts behind the longest prefix
 * it shares with any of them. A tree whose node is one block of tokens in its context; since a child is looked up by all its tokens
 * below its parent, equal nodes have equal prefixes, and there is no hash whose collisions had to be checked.
 *
 * A node owns one block in every (layer, KV head) table. Nodes that no running sequence shares are given up, least recently used first and
 * leaves before their parents, when the pool needs the room.
 */

import type { BlockPool, Keeper } from "./blocks.ts";

/** One block of tokens, after all the blocks above it. */
export interface PrefixNode {
  readonly parent: PrefixNode | null;
  /** Its tokens, as `children` of the parent is keyed. */
  readonly key: string;
  readonly children: Map<string, PrefixNode>;
  /** [layers, kvHeads] block ids. */
  readonly blocks: Uint32Array;
}

/** What the prefix cache was asked for, found and holds. */
export interface PrefixStats {
  /** Prompt tokens that were looked up, and those found; a preempted sequence's second start is not counted. */
  readonly queriedTokens: number;
  readonly hitTokens: number;
  readonly cachedBlocks: number;
  readonly evictedBlocks: number;
}

export class PrefixCache implements Keeper {
  readonly blockSize: number;
  readonly #pool: BlockPool;
  readonly #roots = new Map<string, PrefixNode>();
  /** Every node, least recently used first. */
  readonly #order = new Set<PrefixNode>();
  #queried = 0;
  #hit = 0;
  #cached = 0;
  #evicted = 0;

  constructor(pool: BlockPool, blockSize: number) {
    this.#pool = pool;
    this.blockSize = blockSize;
    pool.setKeeper(this);
  }

  /** The nodes of the longest known prefix of at most `limit` tokens, first block first. */
  match(tokenAt: (i: number) => number, limit: number): PrefixNode[] {
    const chain: PrefixNode[] = [];
    let children = this.#roots;
    for (let first = 0; first + this.blockSize <= limit; first += this.blockSize) {
      const node = children.get(keyOf(tokenAt, first, this.blockSize));
      if (node === undefined) break;
      chain.push(node);
      children = node.children;
    }
    return chain;
  }

  /** Nodes were used just now; those given up meanwhile stay given up. A parent counts as newer than its children, so a chain is given up from its end. */
  touch(chain: readonly PrefixNode[]): void {
    for (const node of chain.toReversed()) if (this.#order.delete(node)) this.#order.add(node);
  }

  /** `asked` prompt tokens were looked up and `found` of them came out of the cache. */
  count(asked: number, found: number): void {
    this.#queried += asked;
    this.#hit += found;
  }

  /**
   * The block of tokens first … first + blockSize − 1 below `parent` is complete and stands in `blocks`. Returns its node: a known one when
   * another sequence has computed the same, whose blocks stay the cached ones.
   */
  add(parent: PrefixNode | null, tokenAt: (i: number) => number, first: number, blocks: Uint32Array): PrefixNode {
    const key = keyOf(tokenAt, first, this.blockSize);
    const siblings = parent === null ? this.#roots : parent.children;
    const known = siblings.get(key);
    if (known !== undefined) return known;
    const node: PrefixNode = { parent, key, children: new Map(), blocks };
    this.#pool.keep(blocks);
    siblings.set(key, node);
    this.#order.add(node);
    this.#cached += blocks.length;
    return node;
  }

  /** Whether the node is still cached, and all above it: a chain loses its end first, so the node itself tells. */
  has(node: PrefixNode): boolean {
    return this.#order.has(node);
  }

  reclaim(count: number): void {
    let missing = count;
    for (let found = true; found && missing > 0;) {
      found = false;
      for (const node of this.#order) {
        if (missing <= 0) return;
        const idle = node.children.size > 0 ? 0 : this.#idleBlocks(node);
        if (idle === 0) continue;
        this.#evict(node);
        missing -= idle;
        found = true; // its parent, which may stand earlier in the order, may be a leaf now
      }
    }
    // What is idle now lies above blocks that are in use: a sequence computed for itself what was known already, and went on below it.
    for (const node of this.#order) {
      if (missing <= 0) return;
      if (this.#idleBlocks(node) > 0) missing -= this.#evictBelow(node);
    }
  }

  /** Gives up everything that no sequence shares. */
  clear(): void {
    this.reclaim(Infinity);
  }

  stats(): PrefixStats {
    return { queriedTokens: this.#queried, hitTokens: this.#hit, cachedBlocks: this.#cached, evictedBlocks: this.#evicted };
  }

  /** Blocks of the node that nobody else holds. */
  #idleBlocks(node: PrefixNode): number {
    return node.blocks.reduce((sum, id) => sum + (this.#pool.owners(id) === 1 ? 1 : 0), 0);
  }

  /** Gives up the node and all below it, which nothing could find any more; returns how many blocks are free now. */
  #evictBelow(node: PrefixNode): number {
    let freed = this.#idleBlocks(node);
    for (const child of node.children.values()) freed += this.#evictBelow(child);
    this.#evict(node);
    return freed;
  }

  #evict(node: PrefixNode): void {
    (node.parent === null ? this.#roots : node.parent.children).delete(node.key);
    this.#order.delete(node);
    this.#pool.giveUp(node.blocks);
    this.#cached -= node.blocks.length;
    this.#evicted += node.blocks.length;
  }
}

function keyOf(tokenAt: (i: number) => number, first: number, count: number): string {
  let key = "";
  for (let i = 0; i < count; i++) key += `${tokenAt(first + i)} `;
  return key;
}
