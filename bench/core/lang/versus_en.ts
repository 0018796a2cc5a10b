/** English: two runs side by side. */

const counted = (count: number | string, noun: string): string => `${count} ${noun}${String(count) === "1" ? "" : "s"}`;

export const versusEn = {
  title: (technique: string, name: string) => `${technique}: two runs of ${name}`,
  run: (name: string, path: string, started: string) => `${name}: ${path} (${started})`,
  different: "What is different:",
  nothingElse: "Nothing but the time they were run.",
  notThere: "not there",
  verdict: "Verdict:",
  unchangedCode: "Both are of the same commit on the same machine: whatever the baseline changed is the machine's doing, and counts as noise.",
  unknownCode: (runs: string) => `${runs}: made from changed files, so the commit does not tell which code was measured.`,
  interrupted: (runs: string) => `${runs}: INTERRUPTED. Compared is what was measured before.`,
  invalid: (runs: string) => `${runs}: INVALID as a whole. Arms that are valid by themselves are compared.`,
  absolute: {
    noYardstick: "A run did not look at how fast its machine was, so it is not known whether the machine was the same: nothing is said about speed itself, only about what techniques do to their own baseline.",
    otherWork: "The two runs looked at their machines with different yardsticks: nothing is said about speed itself, only about what techniques do to their own baseline.",
    otherMachine: "They ran on different machines: nothing is said about speed itself, only about what techniques do to their own baseline.",
  },
  machineMoved: (from: string, to: string) => `The machine itself was not as fast in both: the same small work took ${from} to ${to} time in B. What is not more than that is not told.`,
  nothing: (count: number) => `No measurable difference in any of ${counted(count, "comparison")}.`,
  nothingCompared: "Nothing can be said about speed: no arm has iterations enough in both runs, or none may be spoken of.",
  tooFewOf: (count: number, claim: number) => `${counted(count, "comparison")} had fewer than ${claim} iterations in a run: too few to tell.`,
  changed: (arm: string, metric: string, percent: string, higher: boolean, better: boolean, range: string, floor: string) =>
    `${arm}: ${metric} is ${percent} ${higher ? "higher" : "lower"} in B, ${better ? "better" : "worse"} (${range}; noise floor ${floor})`,
  everyArm: (arms: number, metric: string, higher: boolean, better: boolean, from: string, to: string) =>
    `In all ${arms} arms: ${metric} is ${higher ? "higher" : "lower"} in B, ${better ? "better" : "worse"} (${from} to ${to})`,
  effect: (arm: string, baseline: string, metric: string, a: string, b: string) =>
    `${arm} against ${baseline}, ${metric}: ${a} in A, ${b} in B; the effect itself is another`,
  closed: (arm: string, reasons: string) => `${arm}: nothing is said.${reasons}`,
  both: "both",
  reasons: {
    invalid: (run: string, reason: string) => ` In ${run} it is INVALID: ${reason}.`, proof: (run: string, reason: string) => ` In ${run} it changed what it must not change: ${reason}.`,
    missing: (run: string) => ` ${run} does not have it.`,
  },
  factsHead: "As a matter of fact:",
  fact: (arm: string, what: string, a: string, b: string) => `${arm}, ${what}: ${a} in A, ${b} in B`,
  noFacts: "Texts, counts and bytes that must be the same are the same.",
  quality: { perplexity: "perplexity", change: "perplexity against the baseline, %", kld: "KLD", sameTop: "same likeliest token" },
  qualityTold: (arm: string, what: string, a: string, b: string, errors: number) => `${arm}, ${what}: ${a} in A, ${b} in B, more than ${errors} standard errors apart`,
  heads: { speeds: "Every arm, B against A", effects: "Every technique against its own baseline", machine: "The machine itself", quality: "Quality" },
  columns: {
    speeds: ["arm", "metric", "median in A", "median in B", "change (95 % interval)", "noise floor", "said"],
    effects: ["arm", "metric", "effect in A", "effect in B", "apart", "noise floor", "said"],
    machine: ["time of", "change (95 % interval)", "spread in A", "spread in B"],
    quality: ["arm", "measure", "value in A", "value in B", "said"],
  },
  say: { told: "different", none: "no measurable difference", tooFew: "too few iterations", shown: "not judged", machine: "not judged: machine" },
  saysOfQuality: { same: "the same", within: "within the errors", told: "different", unknown: "no error known" },
  cause: { control: "equal arms", restless: "restlessness", machine: "the machine", uneven: "an uneven machine", drift: "drift", none: "nothing" },
  parts: { computeMs: "arithmetic", memoryMs: "memory", hostMs: "host" },
  because: (cause: string) => `: ${cause}`,
  sameQuality: (count: number) => `Quality is the same to the last digit, in ${counted(count, "figure")}.`,
  yes: "yes", no: "no",
  howTold: (level: string, claim: number) => `Runs are not paired: changes are ratios of medians. A difference is told when its whole interval lies beyond the noise floor, both runs have at least ${claim} iterations, ` +
    `and equal runs would give any such difference, in all that is compared, in less than ${level} of comparisons. Only output throughput, TTFT and TPOT are judged.`,
};
