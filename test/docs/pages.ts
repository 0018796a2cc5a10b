/** The pages of the repository as tests read them: which there are, their links and headings, and the commands they tell a reader to run. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./guide.ts";

export interface Page { readonly path: string; readonly text: string }

/** Every page that is or would be under version control. */
export function pages(): Page[] {
  const listed = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "-z", "*.md"], {
    cwd: ROOT, encoding: "utf8",
  });
  return [...new Set(listed.split("\0"))].filter((path) => path !== "").flatMap((path) => {
    try {
      return [{ path, text: readFileSync(join(ROOT, path), "utf8") }];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return []; // listed, and deleted since
      throw error;
    }
  });
}

/** A page without what stands in code: fences, indented blocks and spans. */
function prose(text: string): string {
  return text.replaceAll(/^( *)(`{3,})[^]*?^\1\2$/gm, "").replaceAll(/^(?: {4}|\t).*$/gm, "").replaceAll(/(`+)[^]*?\1/g, "");
}

/** Targets of all links and pictures. */
export function linksOf(text: string): string[] {
  return [...prose(text).matchAll(/\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)/g)].map(([, target]) => target!);
}

/** What a heading is called in a link, as GitHub makes it. */
export function anchorsOf(text: string): string[] {
  const seen = new Map<string, number>();
  return [...text.replaceAll(/^( *)(`{3,})[^]*?^\1\2$/gm, "").matchAll(/^#{1,6} +(.+?) *$/gm)].map(([, heading]) => {
    const text = heading!.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const slug = text.replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, "").replaceAll(" ", "-");
    const count = seen.get(slug) ?? 0;
    seen.set(slug, count + 1);
    return count === 0 ? slug : `${slug}-${count}`;
  });
}

/** A command of a page: `node bench/NAME.ts` or `npx dawnlm`, with its arguments as a shell would split them. */
export interface Told { readonly program: string; readonly args: readonly string[]; readonly line: string }

/**
 * The commands that stand in blocks and spans of code. Those that leave something out (…), or whose parts are in brackets, are no whole
 * commands and are passed over. What is piped into a command is left out.
 */
export function commandsOf(text: string): Told[] {
  const code = [
    ...[...text.matchAll(/^( *)```(?:sh|bash|console)?\n([^]*?)^\1```$/gm)].flatMap(([, , block]) => block!.split("\n")),
    ...text.split("\n").filter((line) => /^ {4}/.test(line)),
    ...[...text.matchAll(/(?<!`)`([^`\n]+)`(?!`)/g)].map(([, span]) => span!),
  ];
  return code.map((line) => line.trim().replace(/^(?:cat|head|echo) [^|]*\| /, "")).filter((line) => /^(?:node bench\/\w+\.ts|npx dawnlm)(?: |$)/.test(line)).flatMap((line) => {
    const words = split(line);
    const program = words[0] === "node" ? words[1]! : "dawnlm";
    return words.some((word) => /…|\.\.\.$|^\[|^<|\||^[A-Z]+(?:\.\w+)?$/.test(word)) ? [] : [{ program, args: words.slice(2), line }];
  });
}

/** Words of a command line, with quotes taken off and a comment left out. */
export function split(line: string): string[] {
  const [command = ""] = line.split(/(?<=\s)#/);
  return [...command.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)].map(([word]) => word.replaceAll(/"([^"]*)"|'([^']*)'/g, "$1$2"));
}
