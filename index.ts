/** The public surface of dawnlm, nothing else. */

export { LLM, type CacheStats, type Environment, type ModelSource } from "./models/llm.ts";
export type {
  FinishReason, GenerateOptions, GenerateResult, GenerateStats, KvFormat, KvLayout, LoadOptions, LoadProgress, MemoryBytes, MemoryReport, Timings, TokenLogprobs, WeightFormat,
} from "./models/options.ts";
export type { ModelConfig } from "./models/config.ts";
export type { TraceEvent } from "./engine/trace.ts";
export {
  AbortedError, ContextLengthError, DawnlmError, DeviceLostError, GpuError, ModelFileError, NonFiniteLogitsError, OutOfMemoryError, UsageError,
} from "./engine/errors.ts";
