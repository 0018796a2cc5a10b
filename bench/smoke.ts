/**
 * `node bench/smoke.ts`: press a short context and generate a few tokens, in seconds. This is plain JavaScript, which any Node reads, even
 * one too old for TypeScript (see package.json beside it); core/smoke/command.ts is the command.
 */
import(["..", "scripts", "enter.mjs"].join("/")).then(({ enter }) => enter(__filename, `${__dirname}/core/smoke/command.ts`)).then((command) => command?.start());
