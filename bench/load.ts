/**
 * `node bench/load.ts`: put a model under load as `vllm bench serve` does, and report its latencies. This is plain JavaScript, which any
 * Node reads, even one too old for TypeScript (see package.json beside it); core/load/command.ts is the command.
 */
import(["..", "scripts", "enter.mjs"].join("/")).then(({ enter }) => enter(__filename, `${__dirname}/core/load/command.ts`)).then((command) => command?.start());
