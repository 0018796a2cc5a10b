/**
 * Every error a user can cause, one class per cause. A message says what was wrong, where, and what to do about it; the command
 * line prints it on one line without a stack trace and leaves with `exitCode`. Anything that is not a DawnlmError is our own bug.
 */

/** 0 ok · 1 internal error · 2 usage or config · 3 model or tokenizer files · 4 GPU missing, lost or too small · 5 finished with failed cells. */
export type ExitCode = 1 | 2 | 3 | 4 | 5;

/** An error whose message is for the user: what was wrong, where, and what to do. Every error that dawnlm throws on purpose is one. */
export class DawnlmError extends Error {
  readonly exitCode: ExitCode;
  constructor(message: string, exitCode: ExitCode, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.exitCode = exitCode;
  }
}

/** A flag, a config key, an option of the library or an argument of a call that cannot be used. */
export class UsageError extends DawnlmError {
  constructor(message: string, options?: ErrorOptions) { super(message, 2, options); }
}

/** A checkpoint, config.json or tokenizer file that is missing, malformed or of a kind we do not run. */
export class ModelFileError extends DawnlmError {
  constructor(message: string, options?: ErrorOptions) { super(message, 3, options); }
}

/** No adapter, a missing feature, a limit that is too low, or a device error latched since the last sync. */
export class GpuError extends DawnlmError {
  constructor(message: string, options?: ErrorOptions) { super(message, 4, options); }
}

/** The device went away (driver reset, destroyed). The Gpu it belonged to cannot be used again. */
export class DeviceLostError extends GpuError {}

/** A buffer did not fit: the device refused it, or a plan says beforehand that it will not fit. */
export class OutOfMemoryError extends GpuError {}

/** The prompt, or one sequence of it, needs more context or cache than there is. */
export class ContextLengthError extends UsageError {}

/** The caller's AbortSignal fired. */
export class AbortedError extends DawnlmError {
  constructor(message = "generation was aborted", options?: ErrorOptions) { super(message, 1, options); }
}

/** Model output that is not a number (NaN or infinite logits): reported for the request it struck, never sampled from. */
export class NonFiniteLogitsError extends ModelFileError {}
