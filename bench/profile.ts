/**
 * `node bench/profile.ts`: how fast a model runs, how far that is from the floor, and where the host's time goes. This is plain
 * JavaScript, which any Node reads, even one too old for TypeScript (see package.json beside it); core/profile/command.ts is the command.
 */
import(["..", "scripts", "enter.mjs"].join("/")).then(({ enter }) => enter(__filename, `${__dirname}/core/profile/command.ts`)).then((command) => command?.start());
