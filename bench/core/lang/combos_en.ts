/** English: the experiment on free combinations. */

export const combosEn = {
  holds: (formats: string) => `weights in ${formats}`,
  entries: (format: string, bytes: string, base: string) => `keys and values in ${format}, ${bytes} bytes an entry instead of ${base}`,
  wasted: (layout: string, own: string, base: string) => `${layout}: ${own} of the reserved cache held no token, in the baseline ${base}`,
  hits: (hit: number, queried: number) => `${hit} of ${queried} prompt tokens came out of the prefix cache`,
  pressed: (press: string, evicted: string, kept: string, seen: string, freed: string) =>
    `${press} evicted ${evicted} entries in a request (median, of all layers and heads together), ${kept} of ${seen} were kept in each, ${freed} were given back`,
  drafted: (draft: string, drafted: number, accepted: number, rate: string, length: string) =>
    `${draft} drafted ${drafted} tokens, of which ${accepted} were accepted (${rate}); ${length} tokens a round`,
  nothing: "it sets nothing that differs from the baseline",
  equal: (of: number, as: string) => `all ${of} texts are those of ${as}, token for token`,
  differ: (differing: number, of: number, as: string, prompt: number, token: number) =>
    `${differing} of ${of} greedy texts are not those of ${as}, which they must be; the first parts at token ${token} of prompt ${prompt}`,
  ownWithoutDraft: "the same arm without its draft",
  sampled: "texts were sampled, so they were not compared token for token",
  notCompared: "the run was stopped before texts were compared",
  lossy: "what it costs in quality stands beside it",
  noQuality: "its quality was not measured (random weights, or the run was stopped before)",
  protocol: (windows: number, context: number, continuation: number, text: string) =>
    `${windows} windows of ${text}: ${context} tokens are read and compressed as in the timed runs, then ${continuation} are scored`,
  budget: (bytes: string) => `Every arm has ${bytes} for keys and values.`,
  pressNeedsPages: "A press gives blocks back, so arms with a press are paged as well.",
  facts: { kvTaken: "KV taken at the peak", kvMean: "KV taken, mean over forward passes", running: "most sequences in one step", weights: "weights", kept: "entries kept of those seen",
    acceptance: "accepted of drafted", length: "tokens a round", preemptions: "preemptions" },
};
