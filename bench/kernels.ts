/**
 * `node bench/kernels.ts`: GB/s and GFLOP/s of every kernel and variant against this device's measured roofs. This is plain JavaScript,
 * which any Node reads, even one too old for TypeScript (see package.json beside it); core/kernels/command.ts is the command.
 */
import(["..", "scripts", "enter.mjs"].join("/")).then(({ enter }) => enter(__filename, `${__dirname}/core/kernels/command.ts`)).then((command) => command?.start());
