/** The words of the experiment on speculative decoding, in English; spec_zh.ts has the same keys. */

const counted = (count: string, noun: string): string => `${count} ${noun}${count === "1" ? "" : "s"}`;

export const specEn = {
  title: (level: string, name: string) => `Speculative decoding: what drafting gains (${level}, ${name})`,
  files: (level: string, name: string) => `spec_decode_experiment_${level}_${name}`,
  arms: { none: "plain decoding", again: "plain decoding again (A/A)", k: (k: string) => `K = ${k}`, adaptive: "adaptive K" },
  /** A draft on a data set. */
  cell: (draft: string, dataset: string) => `draft ${draft} on ${dataset}`,
  heads: {
    table: (dataset: string) => `Throughput and acceptance: ${dataset}`, charts: "Charts", costs: "What drafting and verifying cost here",
    positions: "Acceptance by position", source: "Acceptance as the sources count it",
    time: "Where the time goes",
  },

  samples: (prompts: string, prompt: string, fresh: string) =>
    `${counted(prompts, "prompt")} per data set, cut to ${prompt} tokens, one at a time; every text has exactly ${fresh} new tokens.`,
  oneModel:
    "One LLM per draft serves plain decoding and every K, so the target's weights, kernels and cache are the same; what differs is what " +
    "each request asks for. Arms take turns in seeded random order within every iteration, after warm-up. Plain decoding runs twice: " +
    "what the two differ by is noise.",
  together: "All drafts were loaded at the same time and took turns.",
  inTurn:
    "The drafts were loaded one after the other, each with plain decoding beside it: compare drafts with their own baseline, not with " +
    "each other.",

  invalidArm: (cell: string, arm: string, reason: string) => `**INVALID** ${cell}, ${arm}: ${reason}. Nothing is concluded from it.`,
  invalidCell: (cell: string, reason: string) => `**INVALID** ${cell}: ${reason}. Nothing is concluded from it.`,
  draftedNothing: "nothing was drafted, so this was plain decoding under another name",
  draftedMore: (drafted: string, k: string) => `a round drafted ${counted(drafted, "token")} where K is ${k}: K did not reach the draft`,
  draftedLess: (whole: string, rounds: string, k: string) =>
    `only ${whole} of ${counted(rounds, "round")} of a request drafted K = ${k} tokens, and the end of the text can cut no more than ` +
    `${k}: K did not reach the draft`,
  textsDiffer: (differing: string, of: string, prompt: string, token: string, gap: string) =>
    `${differing} of ${of} greedy texts are not those of plain decoding, which speculation must not change; the first parts at token ` +
    `${token} of prompt ${prompt} (${gap})`,
  gap: (gap: string | null) => (gap === null ? "the gap between the two logits is not known" : `the two logits are ${gap} apart`),
  plainDiffers: "plain decoding did not write the same greedy texts every time, so there is nothing to compare with",
  texts: (same: string, of: string) => `${same} of ${of} greedy texts are those of plain decoding, token for token`,
  sampled: "texts were sampled: speculation keeps their distribution, not each text, so they were not compared",

  verdict: {
    helps: (cell: string, arm: string, speedUp: string, range: string) =>
      `${cell}: speculation helps: ${arm} decodes ${speedUp} × as fast as plain decoding (${range}).`,
    helpsNot: (cell: string, arm: string, speedUp: string, range: string) =>
      `${cell}: speculation does not help here: the fastest, ${arm}, decodes ${speedUp} × as fast as plain decoding (${range}).`,
    same: (cell: string, arm: string, speedUp: string, range: string) =>
      `${cell}: no measurable difference: the fastest, ${arm}, decodes ${speedUp} × as fast as plain decoding (${range}), which is ` +
      "within what equal runs differ by.",
    tooFew: (cell: string) => `${cell}: too few iterations to tell whether speculation helps.`,
    none: (cell: string) => `${cell}: no arm is valid, so nothing can be said about speculation.`,
    round: (arm: string, tokens: string, cost: string) =>
      `a round of ${arm} yields ${tokens} tokens on average and costs ${cost} decode steps`,
    predicted: (predicted: string, measured: string) => `by arithmetic ${predicted} ×, measured ${measured} ×`,
    best: (k: string, speedUp: string, alpha: string) =>
      `at this acceptance (α̂ ${alpha}) and these costs the best K is ${k}, with ${speedUp} ×`,
    noBest: (k: string, speedUp: string, alpha: string) =>
      `at this acceptance (α̂ ${alpha}) and these costs no K pays: the least slow, K = ${k}, comes to ${speedUp} ×`,
    doubt: (costs: string, run: string) =>
      `a decode step took ${costs} ms while the costs were measured and ${run} ms in the run: the machine was not the same, so what ` +
      "arithmetic makes of these costs is not to be relied on",
    causes: {
      "nothing-drafted": () => "why: nothing was drafted", noise: () => "why: the gain is smaller than what two equal runs differ by",
      acceptance: (alpha: string, needed: string) =>
        `why: the draft is rejected too often: its first token is accepted with α̂ ${alpha}, and at these costs it would take ${needed}`,
      "draft-cost": (c: string, needed: string) => `why: the draft is too dear: a draft step costs ${c} decode steps (α needed: ${needed})`,
      "verify-cost": (v: string, needed: string) =>
        `why: verifying is too dear: reading a whole draft at once costs ${v} decode steps (α needed: ${needed})`,
      length: (k: string) => `why: this K is the wrong one; by arithmetic K = ${k} would pay`,
      overhead: (predicted: string) =>
        `why: by arithmetic it should come to ${predicted} ×; the time that is missing is in neither drafting nor verifying`,
    },
    unreachable: "more than 1: not even a draft that is always right would pay",
  },

  columns: [
    "arm", "output, tok/s", "TPOT, ms", "speed-up", "predicted", "tokens per round", "accepted / drafted", "α̂, first position",
    "mean accepted", "the sources' formula",
  ],
  columnsAre:
    "Output: new tokens over the whole time, reading the prompt included. TPOT: time behind the first token over the tokens behind it, " +
    "all requests together. Speed-up: plain decoding's TPOT over the arm's, with the interval over iterations; ≈ where it is within " +
    "noise. Predicted: from what was accepted and what drafting and verifying cost here. Tokens per round: accepted, and one of the " +
    "target's. α̂: how often the first token of a round was accepted, with an interval of 95 %. Mean accepted: of a round.",
  times: (speedUp: string, range: string) => `${speedUp} × (${range})`, timesAlone: (speedUp: string) => `${speedUp} ×`,
  share: (share: string, low: string, high: string) => `${share} (${low} to ${high})`,

  costColumns: [
    "draft", "decode step, ms", "draft step, ms", "c", "v(1)", "v(3)", "v(5)", "v(8)", "v(10)", "v(16)", "α from which it pays",
  ],
  costsAre:
    "Medians on this adapter, for one sequence. c: a draft step in decode steps; v(K): a forward of K + 1 rows with its acceptance, in " +
    "decode steps. A round costs K · c + v(K) and yields (1 − α^(K+1)) / (1 − α) tokens on average if every token is accepted with " +
    "probability α. A derivation that takes v for 1 promises gains that no device gives for which K + 1 rows cost more than one.",
  positionColumns: (position: string) => `position ${position}`,
  positionsAre:
    "Of the rounds that drafted a token at this position, the share in which it was accepted, and so all before it. All arms of a draft " +
    "together.",
  sourceColumns: [
    "arm", "the sources' formula", "accepted / drafted", "accepted and cut off at the end", "never drafted", "the formula at α̂",
  ],
  sourceIs:
    "The sources print (tokens per round − 1) / K. In whole numbers that is (accepted − cut) / (drafted + missing): accepted tokens " +
    "that the end of the text cut off do not count, and tokens that were never drafted count as rejected. accepted / drafted counts " +
    "what was drafted. Neither is α, the chance that a token is accepted if those before it were: a draft with α = 0.8 comes to 0.538 " +
    "at K = 5, since tokens behind a rejected one are lost whatever they are. In the sources' script K never reached the draft (the " +
    "setting was read from another place, and drafting also ended early by confidence), reading the prompt counted as a step, and " +
    "tokens were counted by encoding the text again; its curve over K is one measurement repeated.",
  timeColumns: ["arm", "rounds", "drafting, ms per round", "verifying, ms per round", "host alone, ms per round"],

  charts: { file: (dataset: string) => `${dataset}: throughput against K with plain decoding and its spread, and acceptance` },
  noChart: (reason: string) => `No charts were drawn: ${reason}.`,
  coldStart: (draft: string, weights: string, pipelines: string, memory: string) =>
    `Cold start with draft ${draft}: ${weights} ms for weights, ${pipelines} ms for cache and pipelines; in none of the metrics. Peak ` +
    `of the ledger: ${memory}.`,
  rawOf: (cell: string, arm: string) => `${cell}, ${arm}`,
  missing: "not measured",
  short: { speedUp: "speed-up", predicted: "predicted", accepted: "accepted", alpha: "α̂" },
};
