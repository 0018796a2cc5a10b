/**
 * `node bench/matrix.ts`: which techniques go together, tried pair by pair on the bundled models. This is plain
 * JavaScript, which any Node reads, even one too old for TypeScript (see package.json beside it); core/matrix/command.ts is the command.
 */
import(["..", "scripts", "enter.mjs"].join("/")).then(({ enter }) => enter(__filename, `${__dirname}/core/matrix/command.ts`)).then((command) => command?.start());
