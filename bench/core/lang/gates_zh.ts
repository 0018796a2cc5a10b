/** Chinese: what gates say when they close. */

import type { gatesEn } from "./gates_en.ts";

export const gatesZh: typeof gatesEn = {
  otherRequests: (own, base) => `它运行了 ${own} 个请求，基线运行了 ${base} 个：两者做的工作不同`,
  otherPrompt: (request, own, base) => `第 ${request} 个请求的提示有 ${own} 个 token，基线为 ${base} 个：两者做的工作不同`,
  otherLength: (request, own, base) => `第 ${request} 个请求写了 ${own} 个 token，基线写了 ${base} 个：两者做的工作不同（让每段文本都写满长度：ignore_eos true）`,
  entriesNoSmaller: (format, own, base) => `${format} 的缓存条目占 ${own} 字节，基线占 ${base} 字节：量化没有节省任何空间`,
  clipped: (axis, low) => `“${axis}” 的柱形从 ${low === null ? "别处" : String(low)} 开始而不是从零开始：柱长会显示并不存在的比例`,
};
