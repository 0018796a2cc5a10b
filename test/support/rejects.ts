/** What a user sees when something is refused: an error of the right class, with one line that says why. */
import * as assert from "uvu/assert";

/** Fails unless `run` rejects with an error of `type` whose one-line message matches. Gives the error back for further checks. */
export async function rejects(run: Promise<unknown>, type: new (message: string) => Error, message: RegExp, name = ""): Promise<Error> {
  let error: unknown;
  try {
    await run;
  } catch (thrown) {
    error = thrown;
  }
  assert.instance(error, type, `${name}: ${error instanceof Error ? error.stack : "no error"}`);
  assert.match((error as Error).message, message, name);
  assert.not.match((error as Error).message, /\n/, name);
  return error as Error;
}
