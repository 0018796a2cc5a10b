/** The driver's plan for one system after another: os-release and apt sources in, the exact files and commands out. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseOsRelease, parseSources, planDriver } from "../support/scripts.ts";

const BOOKWORM = `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n`;
const TRIXIE = `ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n`;
const NOBLE = `ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n`;
const install = (...release: string[]): string[] => [
  "apt-get", "install", "-y", "--no-remove", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", ...release,
  "mesa-vulkan-drivers", "libvulkan1",
];
const lines = (...text: string[]) => parseSources("/etc/apt/sources.list", text.join("\n"));

test("os-release, with and without quotes", () => {
  const text = `ID=debian\nNAME="Debian GNU/Linux"\nVARIANT='a b'\n# ID=no\nEMPTY=\n`;
  assert.equal(parseOsRelease(text), { ID: "debian", NAME: "Debian GNU/Linux", VARIANT: "a b", EMPTY: "" });
});

test("Debian 12 without backports gets them from its own mirror, with the mirror's key", () => {
  const key = "/usr/share/keyrings/debian-archive-keyring.gpg";
  const stanza = (suites: string): string =>
    `Types: deb\nURIs: http://mirror.example/debian\nSuites: ${suites}\nComponents: main\nSigned-By: ${key}\n`;
  const own = stanza("bookworm bookworm-updates");
  const plan = planDriver(BOOKWORM, parseSources("debian.sources", own));
  const text = stanza("bookworm-backports");
  const path = "/etc/apt/sources.list.d/dawnlm-backports.sources";
  assert.equal(plan.file, { path, text });
  assert.equal(plan.lists, `${own}\n${text}`);
  assert.equal(plan.install, install("-t", "bookworm-backports"));
  assert.equal(plan.byHand, [
    `sudo tee ${path} >/dev/null <<'END'`, ...text.trimEnd().split("\n"), "END", "sudo apt-get update",
    "sudo apt-get install -y --no-remove --no-install-recommends -t bookworm-backports mesa-vulkan-drivers libvulkan1",
  ]);
});

test("Debian 12 with backports writes no list, and refreshes only Debian's own", () => {
  const plan = planDriver(BOOKWORM, lines(
    "deb https://tools.example/node_20.x bookworm main",
    "deb http://m.example/debian bookworm main",
    "deb http://m.example/debian bookworm-updates main",
    "deb http://m.example/debian bookworm-backports main contrib",
  ));
  assert.is(plan.file, null);
  assert.equal(parseSources("x.sources", plan.lists!).map(({ uris, suites }) => [...uris, ...suites]), [
    ["http://m.example/debian", "bookworm"], ["http://m.example/debian", "bookworm-backports"],
  ]);
});

test("an archive that borrows Debian's suite name is not taken for its mirror", () => {
  const borrowed = "deb https://tools.example/node_20.x bookworm main";
  const mirrors = [
    ["deb http://m.example/pub bookworm main", "deb http://m.example/pub bookworm-updates main"], // has a suite for updates
    ["deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m.example/pub bookworm main"],
    ["deb http://m.example/debian/ bookworm main"],
    ["deb cdrom:[Debian]/ bookworm main", "deb http://m.example/debian stable main"],
  ];
  for (const mirror of mirrors) {
    for (const sources of [[borrowed, ...mirror], [...mirror, borrowed]]) {
      assert.match(planDriver(BOOKWORM, lines(...sources)).file!.text, /^URIs: http:\/\/m\.example\//m, sources.join("\n"));
    }
  }
});

test("Debian 12 without any mirror says what to add", () => {
  const plan = planDriver(BOOKWORM, lines("deb https://tools.example/docker bookworm stable"));
  assert.is(plan.install, undefined);
  assert.match(plan.byHand[0]!, /add the suite bookworm-backports/);
  assert.equal(plan.byHand.slice(1), [
    "sudo apt-get update",
    "sudo apt-get install -y --no-remove --no-install-recommends -t bookworm-backports mesa-vulkan-drivers libvulkan1",
  ]);
});

test("newer Debian, Ubuntu and their kin take their own", () => {
  const noble = planDriver(NOBLE, lines(
    "deb http://a.example/ubuntu noble main universe",
    "deb http://b.example/ubuntu noble-security main",
    "deb http://c.example/x stable main",
  ));
  assert.is(noble.file, null);
  assert.equal(noble.install, install());
  assert.equal(parseSources("x.sources", noble.lists!).map(({ suites }) => suites[0]), ["noble", "noble-security"]);
  assert.equal(planDriver(TRIXIE, lines("deb http://m.example/debian trixie main")).install, install());
  const testing = planDriver(`ID=debian\nVERSION_CODENAME=forky\n`, lines("deb http://m.example/debian testing main"));
  assert.is(testing.lists, null, "unknown suite name: refresh all");
  assert.equal(planDriver(`ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\n`, []).install, install());
});

test("systems we do not install on get the command, or advice", () => {
  const byHand = (text: string) => {
    const { byHand, install } = planDriver(text, []);
    assert.is(install, undefined, text);
    return byHand.join("\n");
  };
  assert.is(byHand("ID=fedora\nVERSION_ID=42\n"), "sudo dnf install mesa-vulkan-drivers vulkan-loader");
  assert.is(byHand(`ID="opensuse-leap"\nID_LIKE="suse opensuse"\n`), "sudo zypper install libvulkan_lvp libvulkan1");
  assert.is(byHand("ID=manjaro\nID_LIKE=arch\n"), "sudo pacman -S vulkan-swrast vulkan-icd-loader");
  assert.match(byHand(`PRETTY_NAME="Debian 11 (bullseye)"\nID=debian\nVERSION_ID="11"\n`), /on Debian 11 .*"lavapipe"/);
  assert.match(byHand("ID=plan9\n"), /on plan9: .* Vulkan driver/);
  assert.match(byHand(""), /on this system: .* Vulkan driver/);
});

test.run();
