/** What the API reference must not be: an export that speaks of a type nobody can import, and says nothing. For api.test.ts. */

interface Hidden { readonly found: boolean }

export function find(): Hidden {
  return { found: true };
}

/** Said. */
export const said = 1;
