/**
 * A Hugging Face hub on 127.0.0.1, as far as a download needs one: commit and file list of one model or data set, files by commit with
 * Range, large files behind a redirect to a second server (another origin, as the real hub does). Faults are switched on by the tests.
 */

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FakeRequest {
  readonly server: "hub" | "store";
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export interface Faults {
  /** Answer every hub request with this status, as long as `times` is above 0. */
  status?: { code: number; headers?: Record<string, string>; times: number } | undefined;
  /** Cut the connection of the next large files after so many bytes each. */
  cut?: number[];
  /** Send this many large files with one byte changed. */
  damage?: number;
  /** Send the beginning of this many large files and then nothing. */
  stall?: number;
  /** Answer Range requests with the whole file. */
  ignoreRange?: boolean;
  /** Wait before large files are sent. */
  delayMs?: number;
  /** Entries added to the file list as they are. */
  extraEntries?: unknown[];
  /** Ask for this token. */
  token?: string;
  /** Redirect everything to itself. */
  redirectLoop?: boolean;
  /** Continue the file list on the other server (with nothing more). */
  nextPage?: boolean;
  /** Answer the file list with a page of HTML. */
  html?: boolean;
}

export interface FakeHub {
  readonly url: string;
  readonly repo: string;
  readonly commit: string;
  readonly faults: Faults;
  readonly requests: FakeRequest[];
  close(): Promise<void>;
}

const sha1 = (data: Buffer) => createHash("sha1").update(`blob ${data.length}\0`).update(data).digest("hex");
const sha256 = (data: Buffer) => createHash("sha256").update(data).digest("hex");

/** Serves `files` as the model someone/small, or as a data set; names that end in .safetensors, .bin or .parquet are in large-file storage. */
export async function startFakeHub(files: Readonly<Record<string, Buffer>>, dataset?: string): Promise<FakeHub> {
  const repo = dataset ?? "someone/small", isDataset = dataset !== undefined;
  const commit = "a".repeat(40);
  const faults: Faults = {};
  const requests: FakeRequest[] = [];
  const isLarge = (name: string) => /\.(safetensors|bin|parquet)$/.test(name);
  let storeUrl = "";

  const log = (server: "hub" | "store", request: IncomingMessage) => requests.push({
    server, path: decodeURIComponent(request.url ?? ""), range: request.headers.range, authorization: request.headers.authorization,
  });
  const json = (response: ServerResponse, value: unknown) =>
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));

  const hub = createServer((request, response) => {
    log("hub", request);
    const url = new URL(request.url ?? "", "http://hub");
    if (faults.redirectLoop) return response.writeHead(302, { location: request.url }).end();
    const { status } = faults;
    if (status !== undefined && status.times-- > 0) return response.writeHead(status.code, status.headers).end();
    if (faults.token !== undefined && request.headers.authorization !== `Bearer ${faults.token}`) return response.writeHead(401).end();
    const kind = url.pathname.startsWith("/api/") ? /^\/api\/datasets\// : /^\/datasets\//;
    const api = url.pathname.match(/^\/api\/(?:models|datasets)\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)(?:\/(.+))?$/);
    const resolved = url.pathname.match(/^(?:\/datasets)?\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/);
    if ((api?.[1] ?? resolved?.[1]) !== repo || kind.test(url.pathname) !== isDataset) return response.writeHead(404, { "x-error-code": "RepoNotFound" }).end();
    const revision = decodeURIComponent(api?.[3] ?? resolved?.[2] ?? "");
    if (revision !== commit && revision !== "main") return response.writeHead(404, { "x-error-code": "RevisionNotFound" }).end();
    if (api?.[2] === "revision") {
      return json(response, { _id: "1", id: repo, sha: commit, private: false, lastModified: "2024-01-01T00:00:00.000Z" });
    }
    if (api?.[2] === "tree") {
      if (faults.html) return response.writeHead(200, { "content-type": "text/html" }).end("<html>log in</html>");
      if (faults.nextPage) response.setHeader("link", `<${storeUrl}/next-page>; rel="next"`);
      const folder = api[4] === undefined ? "" : `${decodeURIComponent(api[4])}/`;
      if (folder !== "" && !Object.keys(files).some((path) => path.startsWith(folder))) {
        return response.writeHead(404, { "x-error-code": "EntryNotFound" }).end();
      }
      return json(response, [
        { type: "directory", path: "onnx", size: 0, oid: "0".repeat(40) },
        ...Object.entries(files).filter(([path]) => path.startsWith(folder)).map(([path, data]) => ({
          type: "file", path, size: data.length, oid: sha1(data),
          ...(isLarge(path) ? { lfs: { oid: sha256(data), size: data.length, pointerSize: 130 } } : undefined),
        })),
        ...faults.extraEntries ?? [],
      ]);
    }
    const name = decodeURIComponent(resolved![3]!);
    if (isLarge(name)) return response.writeHead(302, { location: `${storeUrl}/${encodeURIComponent(name)}` }).end();
    return response.writeHead(200).end(files[name]);
  });

  const store = createServer(async (request, response) => {
    log("store", request);
    if (request.url === "/next-page") return json(response, []);
    if (faults.delayMs !== undefined) await new Promise((done) => setTimeout(done, faults.delayMs));
    let data = files[decodeURIComponent(request.url!.slice(1))]!;
    if ((faults.damage ?? 0) > 0) {
      faults.damage!--;
      data = Buffer.from(data);
      data[data.length >> 1]! ^= 1;
    }
    const from = faults.ignoreRange ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, {
      "content-length": data.length - from,
      ...(from > 0 ? { "content-range": `bytes ${from}-${data.length - 1}/${data.length}` } : undefined),
    });
    const stall = (faults.stall ?? 0) > 0;
    const cut = faults.cut?.shift();
    if (stall) {
      faults.stall!--;
      response.write(data.subarray(from, from + 10));
    } else if (cut !== undefined) {
      response.write(data.subarray(from, from + cut), () => setTimeout(() => response.destroy(), 20));
    } else {
      response.end(data.subarray(from));
    }
  });

  const listen = async (server: Server) => {
    await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  };
  storeUrl = await listen(store);
  const url = await listen(hub);
  const stop = (server: Server) => new Promise<void>((done) => {
    server.close(() => done());
    server.closeAllConnections();
  });
  return { url, repo, commit, faults, requests, close: async () => { await Promise.all([stop(hub), stop(store)]); } };
}
