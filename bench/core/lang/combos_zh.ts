/** Chinese: the experiment on free combinations. */

import type { combosEn } from "./combos_en.ts";

export const combosZh: typeof combosEn = {
  holds: (formats) => `权重为 ${formats}`,
  entries: (format, bytes, base) => `键和值为 ${format}，每个条目 ${bytes} 字节，基线为 ${base} 字节`,
  wasted: (layout, own, base) => `${layout}：已预留缓存的 ${own} 没有存放 token，基线为 ${base}`,
  hits: (hit, queried) => `${queried} 个提示 token 中有 ${hit} 个来自前缀缓存`,
  pressed: (press, evicted, kept, seen, freed) => `${press} 在每个请求中淘汰 ${evicted} 个条目（中位数，所有层和头合计），每个头的 ${seen} 个中保留 ${kept} 个，归还 ${freed}`,
  drafted: (draft, drafted, accepted, rate, length) => `${draft} 起草了 ${drafted} 个 token，其中 ${accepted} 个被接受（${rate}）；每轮 ${length} 个 token`,
  nothing: "它没有设置任何与基线不同的内容",
  equal: (of, as) => `全部 ${of} 段文本与 ${as} 的逐 token 相同`,
  differ: (differing, of, as, prompt, token) => `${of} 段贪心文本中有 ${differing} 段与 ${as} 的不同，而它们必须相同；最早的分歧在第 ${prompt} 个提示的第 ${token} 个 token`,
  ownWithoutDraft: "同一组去掉草稿之后",
  sampled: "文本是采样得到的，因此没有逐 token 比较",
  notCompared: "运行在比较文本之前被中止",
  lossy: "它在质量上的代价列在旁边",
  noQuality: "没有测量它的质量（随机权重，或运行提前中止）",
  protocol: (windows, context, continuation, text) => `${text} 的 ${windows} 个窗口：读入 ${context} 个 token 并像计时运行中那样压缩，然后对 ${continuation} 个 token 评分`,
  budget: (bytes) => `每一组用于键和值的内存都是 ${bytes}。`,
  pressNeedsPages: "压缩器会归还块，因此带压缩器的组同时也是分页的。",
  facts: { kvTaken: "KV 占用峰值", kvMean: "KV 占用（前向过程平均）", running: "一步中最多的序列数", weights: "权重", kept: "看到的条目中保留的", acceptance: "起草中被接受的",
    length: "每轮 token 数", preemptions: "抢占次数" },
};
