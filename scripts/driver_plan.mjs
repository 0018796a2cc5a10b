/**
 * Which Vulkan driver a Linux system without a usable one should get, and by which commands. Only decisions: text in, a plan out, so
 * that every system can be tested on any other.
 */

import { formatSources } from "./apt_sources.mjs";

/** Mesa brings Vulkan drivers for most GPUs and one that runs on the CPU; the loader is what Dawn opens. */
const PACKAGES = ["mesa-vulkan-drivers", "libvulkan1"];
const BACKPORTS_FILE = "/etc/apt/sources.list.d/dawnlm-backports.sources";

/** Commands for systems whose packages we know but do not install by ourselves, by the ID or ID_LIKE of os-release. */
const BY_HAND = {
  fedora: "sudo dnf install mesa-vulkan-drivers vulkan-loader",
  rhel: "sudo dnf install mesa-vulkan-drivers vulkan-loader",
  arch: "sudo pacman -S vulkan-swrast vulkan-icd-loader",
  suse: "sudo zypper install libvulkan_lvp libvulkan1",
};

/** The fields of /etc/os-release: { ID: "debian", VERSION_ID: "12", … }. */
export function parseOsRelease(text) {
  return Object.fromEntries([...text.matchAll(/^\s*([A-Z_]+)=(?:"([^"\n]*)"|'([^'\n]*)'|(.*?))\s*$/gm)]
    .map(([, name, double, single, bare]) => [name, double ?? single ?? bare]));
}

/**
 * What to do, given os-release's text and the sources that apt has (of parseSources): either
 * { file, lists, install, byHand }: a source list to write first ({ path, text } or null), the text of the lists to refresh (null: all),
 * the command that installs, and the same as lines for a user to run; or, where we know no commands of our own, { byHand } alone.
 */
export function planDriver(osRelease, sources) {
  const os = parseOsRelease(osRelease);
  const family = [os.ID, ...(os.ID_LIKE ?? "").split(" ")];
  if (os.ID === "debian" && os.VERSION_ID === "12") return planBackports(os.VERSION_CODENAME ?? "bookworm", sources);
  const tooOld = os.ID === "debian" && Number(os.VERSION_ID) < 12;
  if (!tooOld && (family.includes("debian") || family.includes("ubuntu"))) return planOwn(os.VERSION_CODENAME, sources);
  const known = family.find((name) => name in BY_HAND);
  if (known !== undefined) return { byHand: [BY_HAND[known]] };
  const system = os.PRETTY_NAME ?? os.ID ?? "this system";
  return { byHand: [`# on ${system}: install your GPU's Vulkan driver, or Mesa 23 or newer with its software driver "lavapipe"`] };
}

/** Debian 12's own Mesa 22.3 lacks a feature that Dawn requires; its backports have a newer one. */
function planBackports(codename, sources) {
  const suite = `${codename}-backports`;
  const inMain = sources.filter(({ components }) => components.includes("main"));
  const named = inMain.filter(({ suites }) => [codename, "stable", "oldstable"].some((name) => suites.includes(name)));
  const archive = mainArchive(named, sources, codename);
  const present = inMain.filter(({ suites }) => suites.includes(suite));
  const install = installCommand(["-t", suite]);
  if (present.length > 0) return finish(null, archive === undefined ? null : [archive, ...present], install);
  if (archive === undefined) {
    return { byHand: [`# add the suite ${suite}, component main, of your Debian mirror to apt's sources, then`, ...asUser(null, install)] };
  }
  const added = { ...archive, suites: [suite], components: ["main"] };
  return finish({ path: BACKPORTS_FILE, text: formatSources([added]) }, [archive, added], install);
}

/**
 * Of several archives with Debian's suite name the one that is Debian's: others borrow the name (`deb …/node_20.x bookworm main`), but
 * only Debian's has a suite for updates, is signed by Debian's keys, or lies in a folder called debian.
 */
function mainArchive(candidates, sources, codename) {
  const withUpdates = new Set(sources.filter(({ suites }) => suites.includes(`${codename}-updates`)).flatMap(({ uris }) => uris));
  const signs = ({ uris, rest }) => [
    uris.some((uri) => withUpdates.has(uri)),
    rest.some((field) => /debian-archive/.test(field)),
    uris.some((uri) => /\/debian\/?$/.test(uri)),
  ].filter(Boolean).length;
  return candidates.filter(({ uris }) => !uris[0]?.startsWith("cdrom:")).sort((a, b) => signs(b) - signs(a))[0];
}

function planOwn(codename, sources) {
  const suites = [codename, `${codename}-updates`, `${codename}-security`];
  const needed = sources.filter((source) => source.components.includes("main") && source.suites.some((suite) => suites.includes(suite)));
  return finish(null, needed.length === 0 ? null : needed, installCommand([]));
}

function finish(file, lists, install) {
  return { file, lists: lists === null ? null : formatSources(lists), install, byHand: asUser(file, install) };
}

/** Nothing may be removed for it: rather fail than take a user's packages away. */
function installCommand(release) {
  return ["apt-get", "install", "-y", "--no-remove", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", ...release, ...PACKAGES];
}

function asUser(file, install) {
  const write = file === null ? [] : [`sudo tee ${file.path} >/dev/null <<'END'`, ...file.text.trimEnd().split("\n"), "END"];
  return [...write, "sudo apt-get update", `sudo ${install.filter((word) => word !== "-o" && !word.startsWith("DPkg::")).join(" ")}`];
}
