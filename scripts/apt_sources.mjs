/**
 * Reading and writing apt's source lists, in both of their formats (sources.list(5)): one line per source, and stanzas of fields
 * (deb822). Pure functions from text to text.
 */

/** Fields whose names in a one-line source's [options] differ from those in a stanza. */
const OPTION_FIELDS = { arch: "Architectures", lang: "Languages", target: "Targets" };
const OWN_FIELDS = ["types", "uris", "suites", "components", "enabled"];

/**
 * The binary sources that a list file switches on: { uris, suites, components, rest }, where `rest` is the text of all other fields
 * (keys, architectures, …). `path` tells the format: "….sources" holds stanzas, anything else lines.
 */
export function parseSources(path, text) {
  const lines = text.split(/\r?\n/);
  return path.endsWith(".sources") ? stanzas(lines) : lines.flatMap(oneLine);
}

function stanzas(lines) {
  return lines.filter((line) => !line.startsWith("#")).join("\n").split(/\n(?:[ \t]*\n)+/).flatMap((stanza) => {
    const fields = new Map(); // name in lower case → its text, with the lines that continue it
    for (const [, name, value] of stanza.matchAll(/^([^\s:]+):(.*(?:\n[ \t].*)*)/gm)) fields.set(name.toLowerCase(), { name, value });
    const words = (name) => (fields.get(name)?.value ?? "").split(/\s+/).filter(Boolean);
    if (!words("types").includes("deb") || /^(no|false|off|0)$/i.test(words("enabled")[0] ?? "yes")) return [];
    const rest = [...fields].filter(([key]) => !OWN_FIELDS.includes(key)).map(([, { name, value }]) => `${name}:${value}`);
    return [{ uris: words("uris"), suites: words("suites"), components: words("components"), rest }];
  });
}

function oneLine(line) {
  const match = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)/.exec(line);
  if (match === null) return [];
  const [, options = "", uri, suite, components] = match;
  const rest = [...options.matchAll(/([\w-]+?)([+-]?)=(\S+)/g)].map(([, name, sign, value]) => {
    const change = { "+": "-Add", "-": "-Remove" }[sign] ?? "";
    return `${OPTION_FIELDS[name.toLowerCase()] ?? name}${change}: ${value.replaceAll(",", " ")}`;
  });
  return [{ uris: [uri], suites: [suite], components: components.split(/\s+/).filter(Boolean), rest }];
}

/** The text of a ".sources" file that holds `sources`. */
export function formatSources(sources) {
  return sources.map(({ uris, suites, components, rest }) => [
    "Types: deb", `URIs: ${uris.join(" ")}`, `Suites: ${suites.join(" ")}`, `Components: ${components.join(" ")}`, ...rest, "",
  ].join("\n")).join("\n");
}
