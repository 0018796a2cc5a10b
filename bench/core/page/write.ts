/** Draws the pictures of a run and puts its page together, as files; writing them down is the caller's. */

import { en, type Words } from "../lang/en.ts";
import { darkOf, drawSpec, svgOf, type Json } from "../report/draw.ts";
import type { Result } from "../result.ts";
import { pageOf, type Drawn } from "./page.ts";
import { picturesOf, type Planned } from "./pictures.ts";

/** A picture for the page, and as files beside it. */
export interface DrawnFiles extends Drawn { readonly files: readonly PageFile[] }

/** A path within the folder of the run, with what stands in it. */
export type PageFile = readonly [path: string, content: string | Uint8Array];

/** All pictures of a run. One that cannot be drawn comes back with the reason: a run of hours is not lost to a picture. */
export async function drawAll(result: Result, words: Words = en): Promise<DrawnFiles[]> {
  const drawn: DrawnFiles[] = [];
  for (const picture of picturesOf(result, words)) drawn.push(await draw(picture));
  return drawn;
}

async function draw({ id, title, caption, alt, spec, isOwn, clipped }: Planned): Promise<DrawnFiles> {
  const shown = { id, title, caption, alt };
  if (clipped !== null) return { ...shown, svgs: null, note: clipped, files: [] };
  try {
    const { png, svg } = await drawSpec(spec), bare = isOwn ? spec : untitled(spec);
    return { ...shown, note: null, svgs: { light: isOwn ? svg : await svgOf(bare), dark: await svgOf(darkOf(bare)) },
      files: [[`pictures/${id}.png`, png], [`pictures/${id}.svg`, svg]] };
  } catch (error) {
    return { ...shown, svgs: null, note: (error as Error).message, files: [] };
  }
}

/** The page says title and caption itself, in its language. */
function untitled(spec: Json): Json {
  return Object.fromEntries(Object.entries(spec).filter(([key]) => key !== "title"));
}

/** `report.html` and all pictures. */
export async function writePage(result: Result, words: Words = en): Promise<PageFile[]> {
  const pictures = await drawAll(result, words);
  return [["report.html", pageOf(result, words, { pictures })], ...pictures.flatMap(({ files }) => files)];
}
