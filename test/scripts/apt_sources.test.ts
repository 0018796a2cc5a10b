/** apt's two formats of source lists: what is read from them, and that what we write says the same. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { formatSources, parseSources } from "../support/scripts.ts";

test("a stanza may hold comments, several suites and a key over several lines", () => {
  const text = [
    "# the mirror", "Types: deb deb-src", "# snapshot of May", "URIs: http://mirror.example/debian http://other.example/debian",
    "Suites: bookworm bookworm-updates", "components: main contrib", "Architectures: amd64",
    "Signed-By:", " -----BEGIN PGP-----", " .", " abc", "",
  ].join("\n");
  assert.equal(parseSources("/etc/apt/sources.list.d/debian.sources", text), [{
    uris: ["http://mirror.example/debian", "http://other.example/debian"],
    suites: ["bookworm", "bookworm-updates"],
    components: ["main", "contrib"],
    rest: ["Architectures: amd64", "Signed-By:\n -----BEGIN PGP-----\n .\n abc"],
  }]);
});

test("stanzas are parted by blank lines; switched-off and source-code ones are left out", () => {
  const stanza = (types: string, uri: string, more = ""): string => `Types: ${types}\n${more}URIs: ${uri}\nSuites: s\nComponents: main\n`;
  const text = ["", stanza("deb", "a:/1"), " ", stanza("deb", "a:/2", "Enabled: no\n"), "", stanza("deb-src", "a:/3"),
    stanza("deb", "a:/4", "Enabled: yes\n").replaceAll("\n", "\r\n")].join("\n");
  assert.equal(parseSources("x.sources", text).map(({ uris }) => uris[0]), ["a:/1", "a:/4"]);
});

test("a line may hold options, a comment, or be switched off", () => {
  const text = [
    "deb http://mirror.example/debian bookworm main contrib # ours",
    "# deb http://off.example/debian bookworm main",
    "deb-src http://mirror.example/debian bookworm main",
    "  deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/k.gpg lang+=de] http://mirror.example/debian\tbookworm-updates\tmain", "",
  ].join("\n");
  assert.equal(parseSources("/etc/apt/sources.list", text), [
    { uris: ["http://mirror.example/debian"], suites: ["bookworm"], components: ["main", "contrib"], rest: [] },
    {
      uris: ["http://mirror.example/debian"],
      suites: ["bookworm-updates"],
      components: ["main"],
      rest: ["Architectures: amd64 arm64", "signed-by: /usr/share/keyrings/k.gpg", "Languages-Add: de"],
    },
  ]);
});

test("what is written is read back the same", () => {
  const text = "deb [signed-by=/k.gpg arch=amd64] http://m.example/debian a main\ndeb http://m.example/x b main extra";
  const sources = parseSources("sources.list", text);
  assert.equal(parseSources("y.sources", formatSources(sources)), sources);
});

test.run();
