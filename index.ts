/** The public surface of dawnlm, nothing else. */

export { LLM, type CacheStats, type Environment, type ModelSource } from "./models/llm.ts";
export type {
  DivergenceResult, FinishReason, GenerateOptions, GenerateResult, GenerateStats, KvChoice, KvFormat, KvLayout, KvNumbers, LoadOptions, LoadProgress, MemoryBytes, MemoryReport,
  PerplexityOptions, PerplexityProtocol, PerplexityResult, TextPerplexity, Timings, TokenLogprobs, WeightFormat,
} from "./models/options.ts";
export type { Outliers } from "./models/runner.ts";
export type { HeldWeights } from "./models/weights.ts";
export type { ModelConfig } from "./models/config.ts";
export type { TraceEvent } from "./engine/trace.ts";
export {
  AbortedError, ContextLengthError, DawnlmError, DeviceLostError, GpuError, ModelFileError, NonFiniteLogitsError, OutOfMemoryError, UsageError,
} from "./engine/errors.ts";
