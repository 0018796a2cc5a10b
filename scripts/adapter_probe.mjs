/**
 * Is there a WebGPU adapter that gives a device? Runs as a process of its own, since a broken driver can crash it or fill standard
 * error. Prints one line of JSON: { state: "found", name } · { state: "none" } · { state: "broken", reason }.
 */

async function probe() {
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  globalThis.dawn = create([]); // a global: if Dawn's instance is collected while a device lives, the process crashes
  const adapter = await globalThis.dawn.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) return { state: "none" };
  const name = adapter.info.description || adapter.info.device || adapter.info.vendor;
  const device = await adapter.requestDevice();
  device.destroy();
  return { state: "found", name };
}

const result = await probe().catch((error) => ({ state: "broken", reason: String(error?.message ?? error).trim().split("\n")[0] }));
process.stdout.write(`${JSON.stringify(result)}\n`);
