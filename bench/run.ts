/**
 * `node bench/run.ts`: run an experiment and write its reports. This is plain JavaScript, which any Node reads, even one too old for
 * TypeScript (see package.json beside it); core/run.ts is the command.
 */
import(["..", "scripts", "enter.mjs"].join("/")).then(({ enter }) => enter(__filename, `${__dirname}/core/run.ts`)).then((command) => command?.start());
