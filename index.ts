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
export type { ChatMessage } from "./engine/chat_template.ts";
export type { StreamDecoder } from "./engine/detokenizer.ts";
export type { ExitCode } from "./engine/errors.ts";
export type { AdapterDescription } from "./engine/gpu.ts";
export type { StoredQuantization } from "./engine/quantized_checkpoint.ts";
export type { Tensor } from "./engine/tensor.ts";
export type { DecodeOptions, EncodeOptions, Tokenizer } from "./engine/tokenizer.ts";
export type { Trace } from "./engine/trace.ts";
export type { AttentionShape } from "./kernels/attention.ts";
export { WEIGHT_FORMATS, type HeldFormat } from "./kernels/formats.ts";
export { KV_FORMATS } from "./kernels/kv_formats.ts";
export type { ShapeResult, TuneReport } from "./kernels/tune.ts";
export type { Grain, TimedDispatch, TimedPass } from "./models/pass_timer.ts";
export type { PrefixStats } from "./models/prefix_cache.ts";
export { POSITION_POLICIES, type LayerState, type PressModel, type PressState } from "./models/press.ts";
export type { CheckpointQuantization } from "./models/quantization_config.ts";
export type { ExpectedAttentionOptions } from "./techniques/press/expected_attention.ts";
export type { LagKvOptions } from "./techniques/press/lagkv.ts";
export type { PyramidKvOptions } from "./techniques/press/pyramidkv.ts";
export type { RandomOptions } from "./techniques/press/random.ts";
export type { SnapKvOptions } from "./techniques/press/snapkv.ts";
export type { ScorerSpec, WrapperSpec } from "./techniques/press/spec.ts";
export type { StreamingLlmOptions } from "./techniques/press/streaming_llm.ts";
