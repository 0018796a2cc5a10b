/** The words of the experiments on KV compression, in English; press_zh.ts has the same keys. */

const counted = (count: string | number, noun: string): string => `${count} ${noun}${String(count) === "1" ? "" : "s"}`;

export const pressEn = {
  knorm: (level: string, name: string) => `KnormPress: what pruning the cache costs and saves (${level}, ${name})`,
  capacity: (level: string, name: string) => `KV compression: sequences at a fixed budget (${level}, ${name})`,
  files: {
    knorm: (level: string, name: string) => `knormpress_experiment_${level}_${name}`,
    capacity: (level: string, name: string) => `kvpress_experiment_${level}_${name}`,
  },
  arms: { none: "no press", again: "no press again (A/A)", keep: (ratio: string) => `keep ${ratio}`,
    press: (name: string, ratio: string) => `${name} ${ratio}` },
  heads: { table: "Arms and figures", charts: "Charts", did: "What the press did", quality: "Quality under compression",
    claims: "The sources' claims, and this run", admitted: "Sequences at a fixed budget" },

  oneModel: "One LLM serves every arm, so weights, kernels and pool are the same; what differs is what each request asks for. Arms take " +
    "turns in seeded random order within every iteration, after warm-up. " +
    "No press runs twice: what the two differ by is noise.",
  samples: (samples: number, prompt: number, fresh: number, after: number, layers: string) =>
    `${counted(samples, "sample")} of ${prompt} prompt tokens, one at a time, with ${fresh} new tokens each; a layer is pruned after ` +
      `every token once it holds ${after} entries; layers left alone: ${layers}.`,
  requests: (requests: number, prompt: number, fresh: number, budget: string, tokens: number) =>
    `${counted(requests, "request")} of ${prompt} prompt tokens and ${fresh} new ones, all at once, from a ` +
      `pool of ${budget}: room for ${tokens} tokens of one sequence. Memory alone limits how many run together. The press acts once, ` +
      `when a prompt has been read.`,
  control: "`random` evicts at random: the negative control, in every run. A press that costs no less than random has chosen nothing.",
  noLayers: "none",

  invalidArm: (arm: string, reason: string) => `**INVALID** ${arm}: ${reason}. Nothing is concluded from it.`,
  tooShort: (prompt: number, fresh: number, after: number) => `the sample has ${prompt} tokens + ${fresh} new, fewer than ` +
    `prune_after ${after}: nothing was pruned`,
  notEvicted: (events: number, prompt: number, fresh: number) =>
    `the press acted ${counted(events, "time")} on a request of ${prompt} tokens + ${fresh} new and evicted nothing`,
  notScored: "while perplexity was measured the press evicted nothing",
  sameAsRandom: (arm: string, random: string) => `predictions under \`${arm}\` are those under \`${random}\` to the last digit, so it ` +
    `has chosen nothing`,
  texts: (same: number, of: number) => `all arms that evict nothing wrote the same ${same} of ${of} texts`,
  textsDiffer: (differing: number, of: number) => `arms that evict nothing wrote ${differing} of ${of} greedy texts differently, so no ` +
    `difference here can be laid to eviction`,
  noneValid: "no arm evicted anything, so nothing can be said about compression.",

  against: (arm: string) => `${arm} against no press:`,
  nullArm: (arm: string) => `${arm} against no press (the press acts once and keeps everything: what it costs to have one):`,
  did: (arm: string, events: string, kept: string, seen: string, freed: string) =>
    `${arm} acted ${counted(events, "time")} per request; the last ` +
    `act left ${kept} entries per KV head of ${seen} tokens read, and ${freed} were given back in all`,
  nullDid: (arm: string, events: string) => `${arm} acted ${counted(events, "time")} per request and evicted nothing, as it should`,
  ppl: (ratio: string, verdict: string, kld: string, top: string) => `perplexity ${ratio} against no press on the same ` +
    `tokens, ${verdict}; KLD ${kld} nats per token, same top token ${top}`,
  pplIs: { same: "no difference beyond two standard errors", higher: "higher, worse", lower: "lower, better" },
  ran: (to: string, from: string, ratio: string) => `sequences at a time: ${to} where no press ran ${from} (${ratio} ×)`,
  ranSame: (to: string, from: string) => `sequences at a time: ${to}, no press ${from}: no measurable difference`,
  noBetterThanRandom: (arm: string, random: string, ratio: string, other: string) =>
    `${arm} costs no less perplexity (${ratio}) than ${random} (${other})`,

  knormColumns: ["arm", "TTFT, ms", "of it press, ms", "TPOT, ms", "output, tok/s", "kept entries", "freed", "peak memory", "perplexity",
    "change of perplexity", "KLD, 10⁻³ nats", "same top token"],
  knormColumnsAre: "Medians over iterations. Press within TTFT: from a request for one token. Kept entries: per KV head, after the last " +
    "act, on average over layers. Freed: bytes of blocks given back by one request, with the 4 bytes of a norm that stand beside each " +
    "entry. " +
    "Peak memory: of the ledger; the pool is reserved at the start and the same for all arms, so eviction frees blocks for other " +
      "sequences, not bytes of the device. ± one standard error.",
  capacityColumns: ["arm", "sequences at a time", "mean", "output, tok/s", "TTFT, ms", "preemptions", "kept entries", "freed per sequence",
    "perplexity", "change of perplexity", "KLD, 10⁻³ nats", "same top token"],
  capacityColumnsAre: "Sequences at a time: the most in one step, the median over iterations; mean: over the forward passes. TTFT " +
    "counts from the arrival of all requests, so it holds the wait for a place. " +
    "Kept entries: per KV head behind the prompt. Freed: bytes of blocks that one sequence gave back when its press acted, with the " +
      "notes that some presses want beside each entry (a norm 4 bytes, attention 8; all arms have them, and they are not part of the " +
      "budget). ± one standard error.",
  didColumns: ["arm", "acts per request", "press, ms per request", "share of the time", "ms per act", "evicted, of all heads and layers",
    "kept, by layer", "held in blocks: after the prompt", "at the end", "most"],
  didColumnsAre: "Entries: a key and a value of one KV head of one layer. Kept and held: of one KV head. With pruning after every token " +
    "a layer is pruned each time it has grown to prune_after again, so its length goes up and down between keep ratio × prune_after and " +
    "prune_after: " +
    "what is left in the end is the share prune_after / tokens of a long text, whatever the keep ratio; a higher one is pruned more " +
      "often, and need not cost less. Held in blocks: of the first sample, on average over layers and KV heads, as the host knows it.",
  quality: {
    decode: (context: number, windows: number, dataset: string) =>
      `Protocol \`decode(${context})\` over ${counted(windows, "window")} of ${dataset}: token by token, each scored with the cache as ` +
      `it was compressed before it.`,
    "prefill-continue": (context: number, continuation: number, windows: number, dataset: string) =>
      `Protocol \`prefill-continue(${context}, ${continuation})\` over ${counted(windows, "window")} of ${dataset}: ` +
        `${context} tokens are read, the press acts once, and the next ${continuation} are scored against what it left.`,
    same: "Every press is compared with no press in the same LLM over the same tokens; errors are paired, token by token, and of those " +
      "over tokens and over windows the larger one is given. A single forward pass cannot see a press: its attention is over before the " +
      "press acts.",
    none: "No perplexity was measured: it was not reached.", random: "No perplexity was measured: the weights are random.",
  },

  claims: {
    intro: "Two guides to KnormPress print, for Pythia-70M: TTFT 0.0623 s before and 0.0080, 0.0066, 0.0063 s at keep ratios 0.9, 0.8, " +
      "0.7; throughput 84.16 before and 77.69, 76.79, 76.45 tokens per second; perplexity 75.03 for all.",
    columns: ["claim", "measured here", "is it so here"],
    ttft: "TTFT −87 % to −90 %", throughput: "throughput −8 % to −9 %", ppl: "perplexity unchanged (75.03 at every ratio)",
    ratioIs: (arm: string, change: string) => `${arm}: ${change}`,
    yes: "yes", no: "no", unclear: "cannot be told: no valid arm", unresolved: "cannot be told: the errors are larger than the change",
    whyTtft: "How −87 % arises: the first token is stamped as soon as the prompt has been read, before anything is pruned, so no keep " +
      "ratio can reach it. The baseline was measured first and cold, through a general generation loop, the pruned runs afterwards " +
      "and warm, " +
      "in a lean loop. What was measured is the warm-up. A press can only add to TTFT: the time it takes, if it acts before the " +
        "first token.",
    whyThroughput: "How −8 % arises: with 100 tokens the printed figures make 11.4 ms per token without pruning and 12.9 ms with it. " +
      "The arithmetic of attention cannot become slower by having fewer entries; what was measured is that keys are " +
      "sorted and the cache is rebuilt on the host after every token. Here selecting and moving happen on the device, and what the acts " +
        "cost is stated as their time.",
    whyPpl: "How an unchanged perplexity arises: it was computed in a separate pass over the text without any compression, and the " +
      "samples had 111 and 122 tokens and 100 new ones, fewer than prune_after 512: nothing was ever pruned. " +
      "Figures that agree to the last digit for every ratio say that nothing happened.",
  },
  charts: { comprehensive: "TTFT, TPOT, throughput, improvement of TTFT, change of throughput, perplexity",
    summary: "Every figure in percent of no press", tradeoff: "TTFT against perplexity", table: "Exact values",
    capacity: "Sequences at a time against the cost in quality" },
  noChart: (reason: string) => `No charts were drawn: ${reason}.`,
  missing: "not measured",
  shortColumns: { ppl: "PPL change", kept: "kept", freed: "freed", running: "at a time" },
};
