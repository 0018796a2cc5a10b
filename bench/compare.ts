/**
 * `node bench/compare.ts A B`: whether two results of the same experiment differ, beyond what chance and the machine did. This is plain
 * JavaScript, which any Node reads, even one too old for TypeScript (see package.json beside it); core/versus/command.ts is the command.
 */
import(["..", "scripts", "enter.mjs"].join("/")).then(({ enter }) => enter(__filename, `${__dirname}/core/versus/command.ts`)).then((command) => command?.start());
