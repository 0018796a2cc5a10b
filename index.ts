/** The public surface of dawnlm, nothing else; and what presses and drafts are called by, which only this floor may tell the models. */

import { nameDrafts } from "./models/draft.ts";
import { namePresses } from "./models/press.ts";
import { pressOf, type PressSpec } from "./techniques/press/spec.ts";
import { DRAFTS } from "./techniques/speculation/spec.ts";

nameDrafts(DRAFTS);
namePresses((named) => pressOf(named as unknown as PressSpec));

export { LLM, type CacheStats, type Environment, type ModelSource } from "./models/llm.ts";
export type {
  DivergenceResult, FinishReason, GenerateOptions, GenerateResult, GenerateStats, KvChoice, KvFormat, KvLayout, KvNumbers, LoadOptions, LoadProgress, MemoryBytes, MemoryReport,
  PerplexityOptions, PerplexityProtocol, PerplexityResult, PressReport, TextPerplexity, Timings, TokenLogprobs, WeightFormat,
} from "./models/options.ts";
export type { DraftLength, DraftOptions, SpeculationCosts, SpeculationStats, TextDraft } from "./models/draft.ts";
export type { DraftInfo } from "./models/draft_model.ts";
export type { NamedPress, PositionPolicy, Press, PressChoice, PressNeeds, PressOperands, PressStage } from "./models/press.ts";
export type { PressSpec } from "./techniques/press/spec.ts";
export type { Outliers } from "./models/runner.ts";
export type { HeldWeights } from "./models/weights.ts";
export type { ModelConfig } from "./models/config.ts";
export type { TraceEvent } from "./engine/trace.ts";
export {
  AbortedError, ContextLengthError, DawnlmError, DeviceLostError, GpuError, ModelFileError, NonFiniteLogitsError, OutOfMemoryError, UsageError,
} from "./engine/errors.ts";
