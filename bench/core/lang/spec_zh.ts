/** 投机解码实验的全部文字，中文。与 spec_en.ts 的键一一对应。 */

import type { specEn } from "./spec_en.ts";

export const specZh: typeof specEn = {
  title: (level, name) => `投机解码：草稿带来多少收益（${level}，${name}）`,
  files: (level, name) => `投机解码_experiment_${level}_${name}`,
  arms: { none: "普通解码", again: "普通解码，对照（A/A）", k: (k) => `固定 K = ${k}`, adaptive: "自适应 K" },
  cell: (draft, dataset) => `草稿 ${draft}，数据集 ${dataset}`,
  heads: {
    table: (dataset) => `吞吐量与接受率：${dataset}`, charts: "图表", costs: "起草与验证在本机的代价", positions: "各位置的接受率", source: "按来源公式计算的接受率",
    time: "时间用在哪里",
  },

  samples: (prompts, prompt, fresh) => `每个数据集 ${prompts} 个提示词，截成 ${prompt} 个词元，逐个运行；每段文本恰好生成 ${fresh} 个新词元。`,
  oneModel: "每个草稿对应一个模型实例，普通解码与各个 K 都由它运行，目标模型的权重、内核和缓存完全相同，不同的只是各请求的要求。预热之后，各方案在每一轮内按种子随机排序，轮流运行。普通解码运行两次：两者之差就是噪声。",
  together: "所有草稿同时加载，轮流运行。", inTurn: "各草稿依次加载，每个都带有自己的普通解码：只能与自己的基线比较，不能在草稿之间比较。",

  invalidArm: (cell, arm, reason) => `**无效** ${cell}，${arm}：${reason}。不由此作任何结论。`,
  invalidCell: (cell, reason) => `**无效** ${cell}：${reason}。不由此作任何结论。`,
  draftedNothing: "没有起草任何词元，只是换了名字的普通解码",
  draftedMore: (drafted, k) => `K 为 ${k}，却有一轮起草了 ${drafted} 个词元：K 没有传到草稿`,
  draftedLess: (whole, rounds, k) => `一个请求的 ${rounds} 轮中只有 ${whole} 轮起草了 K = ${k} 个词元，而文本结尾最多截短 ${k} 轮：K 没有传到草稿`,
  textsDiffer: (differing, of, prompt, token, gap) =>
    `${of} 段贪心文本中有 ${differing} 段与普通解码不同，而投机解码不得改变文本；最早在提示词 ${prompt} 的第 ${token} 个词元处分开（${gap}）`,
  gap: (gap) => (gap === null ? "两个 logit 之差未知" : `两个 logit 相差 ${gap}`),
  plainDiffers: "普通解码每次写出的贪心文本并不相同，没有可以比较的基准",
  texts: (same, of) => `${of} 段贪心文本中有 ${same} 段与普通解码逐词元相同`,
  sampled: "文本为采样所得：投机解码保持的是分布，而不是每一段文本，因此没有逐段比较",

  verdict: {
    helps: (cell, arm, speedUp, range) => `${cell}：投机解码有效：${arm} 的解码速度是普通解码的 ${speedUp} 倍（${range}）。`,
    helpsNot: (cell, arm, speedUp, range) => `${cell}：投机解码在这里无效：最快的 ${arm} 的解码速度是普通解码的 ${speedUp} 倍（${range}）。`,
    same: (cell, arm, speedUp, range) => `${cell}：没有可测出的差异：最快的 ${arm} 的解码速度是普通解码的 ${speedUp} 倍（${range}），未超出相同运行之间的差别。`,
    tooFew: (cell) => `${cell}：轮数太少，无法判断投机解码是否有效。`,
    none: (cell) => `${cell}：没有有效的方案，无法对投机解码作出结论。`,
    round: (arm, tokens, cost) => `${arm} 每轮平均得到 ${tokens} 个词元，代价为 ${cost} 个解码步`,
    predicted: (predicted, measured) => `按计算为 ${predicted} 倍，实测为 ${measured} 倍`,
    best: (k, speedUp, alpha) => `在这样的接受率（α̂ 为 ${alpha}）和代价下，最佳的 K 是 ${k}，为 ${speedUp} 倍`,
    noBest: (k, speedUp, alpha) => `在这样的接受率（α̂ 为 ${alpha}）和代价下，任何 K 都不划算：损失最小的 K = ${k} 为 ${speedUp} 倍`,
    doubt: (costs, run) => `测量代价时一个解码步为 ${costs} ms，运行中为 ${run} ms：机器状态不同，由这些代价算出的数值不可信`,
    causes: {
      "nothing-drafted": () => "原因：没有起草任何词元", noise: () => "原因：收益小于两次相同运行之间的差别",
      acceptance: (alpha, needed) => `原因：草稿被拒绝得太多：首个词元的接受率 α̂ 为 ${alpha}，在这样的代价下需要 ${needed}`,
      "draft-cost": (c, needed) => `原因：起草太贵：一个起草步相当于 ${c} 个解码步（所需 α：${needed}）`,
      "verify-cost": (v, needed) => `原因：验证太贵：一次读完整段草稿相当于 ${v} 个解码步（所需 α：${needed}）`,
      length: (k) => `原因：这个 K 不合适；按计算 K = ${k} 是划算的`,
      overhead: (predicted) => `原因：按计算应为 ${predicted} 倍；缺少的时间既不在起草也不在验证`,
    },
    unreachable: "大于 1：即使草稿永远正确也不划算",
  },

  columns: ["方案", "输出吞吐量 tok/s", "每词元耗时 ms", "加速", "计算值", "每轮词元数", "接受 / 起草", "α̂，首个位置", "平均接受数", "来源公式"],
  columnsAre:
    "输出吞吐量：新词元数除以全部时间，包括读提示词。每词元耗时：首词元之后的时间除以其后的词元数，全部请求合计。加速：普通解码与该方案的每词元耗时之比，并给出各轮的区间；带 ≈ 的未超出噪声。计算值：由实际接受的词元和本机的起草、验证代价算出。每轮词元数：" +
    "接受的词元，再加目标模型的一个。α̂：每轮首个词元被接受的比例，附 95 % 的区间。平均接受数：按轮计。",
  times: (speedUp, range) => `${speedUp} 倍（${range}）`, timesAlone: (speedUp) => `${speedUp} 倍`,
  share: (share, low, high) => `${share}（${low} 至 ${high}）`,

  costColumns: ["草稿", "解码步 ms", "起草步 ms", "代价 c", "验证 v(1)", "验证 v(3)", "验证 v(5)", "验证 v(8)", "验证 v(10)", "验证 v(16)", "划算所需的 α"],
  costsAre:
    "本机上单个序列的中位数。c：一个起草步相当于多少个解码步；v(K)：K + 1 行的一次前向连同接受判定相当于多少个解码步。一轮的代价为 K · c + v(K)，若每个词元的接受概率为 α，则平均得到 (1 − α^(K+1)) / (1 − α) 个词元。" +
    "把 v 当作 1 的推导，在 K + 1 行比一行更贵的设备上会许诺得不到的收益。",
  positionColumns: (position) => `位置 ${position}`,
  positionsAre: "在起草了该位置的各轮中，该词元（因而其前的全部词元）被接受的比例。同一草稿的全部方案合计。",
  sourceColumns: ["方案", "来源公式", "接受 / 起草", "接受后被结尾截去", "未曾起草", "α̂ 代入公式"],
  sourceIs:
    "来源给出的是（每轮词元数 − 1）/ K。用整数写就是（接受 − 截去）/（起草 + 缺少）：被文本结尾截去的已接受词元不计，从未起草的词元算作被拒绝。接受 / 起草则只按实际起草的词元计算。两者都不是 α，即前面各词元均被接受时该词元被接受的概率：α = " +
    "0.8 的草稿在 K = 5 时只有 0.538，因为被拒绝的词元之后的词元无论对错都作废。在来源的脚本里，K 从未传到草稿（设置是从别处读取的，而且起草还会因置信度提前结束），读提示词也算一步，词元数则由重新编码文本得出；它随 K " +
    "变化的曲线只是同一次测量的重复。",
  timeColumns: ["方案", "轮数", "起草，每轮 ms", "验证，每轮 ms", "仅主机，每轮 ms"],

  charts: { file: (dataset) => `${dataset}：吞吐量随 K 的变化，附普通解码及其范围；接受率` },
  noChart: (reason) => `没有绘制图表：${reason}。`,
  coldStart: (draft, weights, pipelines, memory) => `草稿 ${draft} 的冷启动：权重 ${weights} ms，缓存与管线 ${pipelines} ms；不计入任何指标。账本峰值：${memory}。`,
  rawOf: (cell, arm) => `${cell}，${arm}`,
  missing: "未测量",
  short: { speedUp: "加速", predicted: "计算值", accepted: "接受率", alpha: "首位 α̂" },
};
