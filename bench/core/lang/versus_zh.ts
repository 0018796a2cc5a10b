/** Chinese: two runs side by side. */

import type { versusEn } from "./versus_en.ts";

export const versusZh: typeof versusEn = {
  title: (technique, name) => `${technique}：${name} 的两次运行`,
  run: (name, path, started) => `${name}：${path}（${started}）`,
  different: "不同之处：",
  nothingElse: "除运行时间外没有不同。",
  notThere: "没有",
  verdict: "结论：",
  unchangedCode: "两次运行出自同一提交、同一机器：基线的任何变化都来自机器，算作噪声。",
  unknownCode: (runs) => `${runs}：代码有未提交的改动，仅凭提交号无法得知测量的是哪份代码。`,
  interrupted: (runs) => `${runs}：已中断。只比较中断前测得的部分。`,
  invalid: (runs) => `${runs}：整体无效。仍比较其中本身有效的组。`,
  absolute: {
    noYardstick: "有一次运行没有测量机器本身的快慢，无法得知机器是否相同：不对速度本身下结论，只比较各技术相对于自身基线的效果。",
    otherWork: "两次运行用不同的标尺测量机器：不对速度本身下结论，只比较各技术相对于自身基线的效果。",
    otherMachine: "两次运行在不同的机器上：不对速度本身下结论，只比较各技术相对于自身基线的效果。",
  },
  machineMoved: (from, to) => `机器本身的快慢不同：同样的小量工作在 B 中所用时间变化了 ${from} 至 ${to}。不超出它的差异一概不说。`,
  nothing: (count) => `${count} 项比较中都没有可测量的差异。`,
  nothingCompared: "无法对速度下结论：没有哪个组在两次运行中都有足够的轮次，或没有可以谈论的组。",
  tooFewOf: (count, claim) => `${count} 项比较在某次运行中少于 ${claim} 轮：轮次太少，无法判断。`,
  changed: (arm, metric, percent, higher, better, range, floor) => `${arm}：B 的${metric}${higher ? "高" : "低"} ${percent}，${better ? "变好" : "变差"}（${range}；噪声下限 ${floor}）`,
  everyArm: (arms, metric, higher, better, from, to) => `全部 ${arms} 个组：B 的${metric}${higher ? "更高" : "更低"}，${better ? "变好" : "变差"}（${from} 至 ${to}）`,
  effect: (arm, baseline, metric, a, b) => `${arm} 相对于 ${baseline}，${metric}：A 中 ${a}，B 中 ${b}；效果本身不同`,
  closed: (arm, reasons) => `${arm}：不作任何结论。${reasons}`,
  both: "两次运行",
  reasons: {
    invalid: (run, reason) => `在 ${run} 中无效：${reason}。`, proof: (run, reason) => `在 ${run} 中改变了不得改变的内容：${reason}。`, missing: (run) => `${run} 中没有它。`,
  },
  factsHead: "确定的事实：",
  fact: (arm, what, a, b) => `${arm}，${what}：A 中 ${a}，B 中 ${b}`,
  noFacts: "必须相同的文本、计数和字节数都相同。",
  quality: { perplexity: "困惑度", change: "相对于基线的困惑度（%）", kld: "KL 散度", sameTop: "最可能词元相同的比例" },
  qualityTold: (arm, what, a, b, errors) => `${arm}，${what}：A 中 ${a}，B 中 ${b}，相差超过 ${errors} 个标准误`,
  heads: { speeds: "每个组，B 与 A 相比", effects: "每种技术与自身基线相比", machine: "机器本身", quality: "质量" },
  columns: {
    speeds: ["组", "指标", "A 的中位数", "B 的中位数", "变化（95 % 区间）", "噪声下限", "结论"],
    effects: ["组", "指标", "A 中的效果", "B 中的效果", "区间分开", "噪声下限", "结论"],
    machine: ["所用时间", "变化（95 % 区间）", "A 中的散布", "B 中的散布"],
    quality: ["组", "度量", "A 的值", "B 的值", "结论"],
  },
  say: { told: "不同", none: "没有可测量的差异", tooFew: "轮次太少", shown: "不作判断", machine: "不作判断：机器" },
  saysOfQuality: { same: "相同", within: "在误差之内", told: "不同", unknown: "误差未知" },
  cause: { control: "相同的组", restless: "自身波动", machine: "机器", uneven: "机器各部分不一", drift: "漂移", none: "无" },
  parts: { computeMs: "算术", memoryMs: "内存", hostMs: "主机" },
  because: (cause) => `：${cause}`,
  sameQuality: (count) => `质量的 ${count} 个数值完全相同。`,
  yes: "是", no: "否",
  howTold: (level, claim) => `两次运行没有配对：变化是中位数之比。只有当整个区间都在噪声下限之外、两次运行都至少有 ${claim} 轮，` +
    `并且相同的两次运行在全部比较中出现任何这种差异的机会小于 ${level} 时，才说有差异。只判断输出吞吐量、TTFT 和 TPOT。`,
};
