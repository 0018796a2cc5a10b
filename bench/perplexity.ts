/**
 * `node bench/perplexity.ts`: how well a model predicts a text, and how far it is from another. This is plain JavaScript, which any Node
 * reads, even one too old for TypeScript (see package.json beside it); core/perplexity/command.ts is the command.
 */
import(["..", "scripts", "enter.mjs"].join("/")).then(({ enter }) => enter(__filename, `${__dirname}/core/perplexity/command.ts`)).then((command) => command?.start());
