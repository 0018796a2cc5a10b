/** What `node bench/run.ts` needs, around a stand-in for the model. Drawing takes seconds, so the page is drawn only where FAKE_PAGE is set. */

import type { Load } from "../../bench/core/arms.ts";
import { writePage } from "../../bench/core/page/write.ts";
import type { Engine } from "../../bench/core/run.ts";

export function fakeEngine(load: Load): Engine {
  return {
    load, yardstick: null,
    page: process.env["FAKE_PAGE"] === undefined ? async () => [["report.html", "<p>not drawn</p>"], ["pictures/none.svg", "<svg/>"]] : writePage,
  };
}
