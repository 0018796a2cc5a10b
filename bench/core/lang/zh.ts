/** 报告的全部文字，中文。与 lang/en.ts 的键一一对应；数字以排好的格式传入。 */

import type { Words } from "./en.ts";
import { combosZh } from "./combos_zh.ts";
import { gatesZh } from "./gates_zh.ts";
import { pageZh } from "./page_zh.ts";
import { pressZh } from "./press_zh.ts";
import { specZh } from "./spec_zh.ts";
import { versusZh } from "./versus_zh.ts";
import { weightsZh } from "./weights_zh.ts";

export const zh: Words = {
  metrics: {
    ttft_ms: "首词元延迟（TTFT）", tpot_ms: "每词元耗时（TPOT）", itl_p10_ms: "词元间隔（ITL）p10", itl_p50_ms: "词元间隔（ITL）p50", itl_p90_ms: "词元间隔（ITL）p90",
    itl_p99_ms: "词元间隔（ITL）p99", latency_ms: "端到端延迟", output_tokens_per_s: "输出吞吐量", total_tokens_per_s: "总吞吐量", requests_per_s: "请求吞吐量",
  },
  arms: { "contiguous-max": "连续·按上限预留", "contiguous-exact": "连续·按实长预留", paged: "分页", "paged-prefix": "分页＋前缀缓存", ...weightsZh.arms },
  titles: {
    "contiguous-max": "基础推理（连续·按上限预留）：每个序列预留 max_model_len 个词元的空间；静态批处理",
    "contiguous-exact": "连续·按实长预留：每个序列恰好预留其最终所需的空间（真实服务无法预知）；连续批处理",
    paged: "优化推理（分页）：按需分配块；连续批处理",
    "paged-prefix": "分页＋前缀缓存：相同前缀的完整块只计算一次并共享",
    again: "再次（A/A）：第一种布局再运行一遍；两个相同的组之间的差异就是噪声",
  },
  files: {
    arms: { "contiguous-max": "基础推理_report", "contiguous-exact": "按实长预留推理_report", paged: "优化推理_report", "paged-prefix": "前缀缓存推理_report" },
    comparison: (level, name) => `comparison_experiment_${level}_${name}`,
    memory: (level, name) => `显存基准_experiment_${level}_${name}`,
    prefix: (level, name) => `前缀缓存_experiment_${level}_${name}`,
  },
  heads: {
    metrics: "性能指标", memory: "显存", configuration: "配置", environment: "环境", raw: "原始样本", verdict: "结论", results: "结果", claims: "论文的说法与本次实测", lengths: "请求长度",
  },
  experiment: (name) => `PagedAttention 实验：${name}`,
  comparison: (level, name) => `PagedAttention：分页带来了什么（${level}，${name}）`,
  memoryExperiment: (level, name) => `PagedAttention：显存基准（${level}，${name}）`,
  prefixExperiment: (level, name) => `前缀缓存（${level}，${name}）`,

  unit: "单位", median: "中位数", change: "变化", value: "值", key: "键", from: "来源", min: "最小值", max: "最大值",
  none: "无", notSet: "未设置", notUsed: "未使用",
  origins: { flag: "命令行", file: "文件", default: "默认值" },
  follows: (key) => `随 ${key} 而定`,
  against: (to, from) => `${to}相对${from}`,
  missing: { oneToken: "每个请求至少需要两个新词元", noIteration: "没有完成任何一轮", noValue: "没有请求给出数值", noPass: "没有执行任何前向计算", noArm: "有一个方案没有数值", shared: "共享的块只计一次" },
  definitions: "TTFT：从请求到达到第一个词元的时间，每轮的全部请求同时到达。TPOT =（延迟 − TTFT）/（n − 1）。ITL：主机收到相邻词元的间隔；一起读回的几步会同时到达，" +
    "因此较低的 ITL 百分位反映的是读回方式，而不是设备。各定义与 vLLM 一致。每轮给出一个值：该轮各请求的中位数，或该轮总量除以用时。",
  overIterations: "中位数、百分位和极值均按轮统计。",
  changesAre: (claim) => `各方案列出按轮统计的中位数。变化在同一轮内两两配对计算，并给出其中位数的区间：95 % 的自助法区间，若顺序统计量的精确区间更宽则取后者（不足 9 轮时为全部各轮）。` +
    `只有至少运行 ${claim} 轮，且整个区间都超出噪声底线时，才认定存在差异；噪声底线是两个相同方案之间的差别，或一个方案自身相邻两轮之间的差别，取较大者。`,
  tooFew: "轮数太少，无法判断", noDifference: "没有可测出的差异",
  range: (from, to) => `${from} 至 ${to}`,
  cannotCompare: (label, reason) => `${label}：无法比较${reason === null ? "" : `（${reason}）`}`,
  doubtful: (label, doubt, range) => `${label}：${doubt}（各轮为 ${range}）`,
  changed: (label, percent, higher, better, range) => `${label}：${higher ? "升高" : "降低"} ${percent}，${better ? "更好" : "更差"}（${range}）`,
  ratio: (label, ratio, range, doubt) => `${label}：${ratio} 倍（${range}）${doubt === null ? "" : `，${doubt}`}`,

  status: (status) => `状态：**${status}**。`,
  statuses: { complete: "完成", interrupted: "已中断", invalid: "无效" },
  invalid: "无效", partial: "不完整", interrupted: "已中断",
  nothingConcluded: "运行被中断，因此不作任何结论",
  random: "权重为按种子生成的随机数：速度和显存与该架构一致；文本没有意义，也不给出任何质量指标。",
  randomShort: "随机权重：文本没有意义。",
  software: "在**软件适配器**（CPU）上测得：比值很难推及 GPU，绝对数值则完全不能。",
  softwareShort: "软件适配器",
  summary: (model, adapter, software, prompts, iterations) => `${model}，运行于 ${adapter}${software ? "（软件适配器）" : ""}，${prompts} 个提示词，${iterations} 轮的中位数`,
  reports: "报告：",

  engagement: (text) => `技术是否生效：${text}。`,
  correctness: (text) => `正确性：${text}。`,
  wasted: (paged, contiguous) => `在已预留的空间中，分页有 ${paged} 没有存放词元，连续·按上限预留有 ${contiguous}`,
  savedNothing: (engagement) => `${engagement}：分页没有节省任何空间，这些运行不构成比较`,
  ranWhereOtherCannot: "连续·按上限预留在这个缓存池里一个序列也放不下，而分页可以运行",
  hits: (hit, queried, percent, possible) => `查询的 ${queried} 个提示词词元中有 ${hit} 个命中前缀缓存（${percent}；仅公共文本就占 ${possible}）`,
  noHit: "没有任何提示词词元命中前缀缓存，因此这些运行不能说明其作用",
  notAllRan: "并非所有方案都完成了一轮，因此不知道该技术起了什么作用",
  notCompared: "并非所有方案都完成了一轮，因此没有比较文本",
  allSame: (of) => `全部 ${of} 段文本在所有方案、所有轮次中逐词元相同`,
  someSame: (same, of, token, prompt) => `${of} 段文本中有 ${same} 段在所有方案、所有轮次中相同；第一处不同是第 ${prompt} 个提示词的第 ${token} 个词元`,
  greedyDiffers: (correctness) => `贪心解码的文本不应取决于缓存的位置，但是${correctness}`,

  budgetHolds: (budget) => `${budget} 的 KV 缓存预算可同时容纳的序列数（长度与本次相同，按最终长度计）：`,
  holds: (arm, sequences, waste) => `${arm}：${sequences} 个序列；其预留空间中有 ${waste} 没有存放词元`,
  skipped: (arm, needs, holds) => `${arm}：0 个。一个序列要预留 ${needs} 个词元，而预算只能容纳 ${holds} 个；该方案未运行`,
  tableCost: (running) => `批大小相同（同时 ${running} 个序列）时块表的代价（分页为连续·按实长预留的倍数）：`,
  tableCostUneven: "分页与连续·按实长预留同时运行的序列数不同，或发生了抢占：无法由这次运行得出块表的代价。",
  together: "布局与批处理方式合在一起（分页相对连续·按上限预留）：",
  prefixGain: "前缀缓存的收益（分页＋前缀缓存相对分页）：",
  preempted: (arm, count, iterations) => `${arm}的缓存已满，${iterations} 轮中共抢占序列 ${count} 次并重新计算：文本不变，但损失时间。请提高 kv_memory，或降低 batch_size 或 max_model_len。`,
  sameKernels: "所有方案在相同预算内运行相同的内核。分页换来的是预算中空出的部分，也就是能容纳更多序列的显存，而不是速度本身。",
  rows: {
    peak: (category) => `峰值：${category}`,
    categories: { weights: "权重", kv: "KV 缓存", activations: "激活", logits: "logits（词表得分）", staging: "暂存", total: "合计" },
    pool: "缓存池", peakTaken: "缓存占用峰值", meanTaken: "缓存占用，按前向计算平均", meanLive: "其中存放词元的部分",
    waste: "浪费：已占用但未存放词元", wasteAtPeak: "占用峰值时的浪费", fits: "预算可容纳的同类序列数", peakRunning: "单步最多序列数",
    meanRunning: "单步平均序列数", preemptions: "抢占次数", hitRate: "前缀缓存：查询词元的命中率", evicted: "前缀缓存：被淘汰的块数",
  },
  kvTaken: "缓存占用峰值", kvWaste: "缓存浪费", fits: "可容纳序列数", preemptions: "抢占次数", hitRate: "前缀命中率",
  configFile: (file, prompts, tokens, origin, sha) => `配置文件：\`${file}\`。提示词：${prompts} 个${tokens}，来自${origin}，SHA-256 \`${sha}…\`；原文见 JSON 报告。`,
  ofTokens: (from, to) => `，每个 ${from} 至 ${to} 个词元`,
  prompts: {
    given: "配置或命令行", file: (path) => `文件 ${path}`, cut: (seed) => ` assets/texts，以种子 ${seed} 按句截取`, drawn: (seed) => ` assets/texts，以种子 ${seed} 按抽取的长度截取`,
  },
  environment: {
    started: "开始时间", model: "模型", adapter: "适配器", kernels: "内核", features: "特性", limits: "限制", machine: "机器", software: "软件",
    fingerprint: (fingerprint, context) => `指纹 ${fingerprint}…，上下文 ${context}`,
    family: (family, subgroup) => `内核族 ${family}，子组大小 ${subgroup}`,
    cores: (cores) => `${cores} 核`, modified: "有改动", softwareAdapter: "软件",
  },
  coldStart: (weights, pipelines) => `冷启动：权重 ${weights} ms，缓存与管线 ${pipelines} ms；不计入任何指标。`,
  raw: {
    iteration: "轮次", wall: "用时 ms", ttft: "各请求的 TTFT ms", latency: "各请求的延迟 ms", preemptions: "抢占次数",
    gaps: (file) => `每个请求及其全部词元间隔见 \`${file}\`。`,
    order: (order) => `各轮的方案顺序：${order}。`,
  },

  memory: {
    intro: (budget, tokens, requests) => `每个方案都有 ${budget} 的 KV 缓存，可存放 ${tokens} 个词元，并在 ${requests} 个请求中同时运行其所能容纳的数量：唯一的限制是显存。` +
      "连续·按上限预留使用静态批处理，其余方案使用连续批处理。连续·按实长预留事先知道每个请求的长度，真实服务做不到这一点。",
    distributions: { sharegpt: "类 ShareGPT", alpaca: "类 Alpaca", uniform: "均匀分布", constant: "固定长度" },
    shapes: {
      sharegpt: (scale) => `对数正态，均值取论文中 ShareGPT 的 161.31（提示词）与 337.99（输出）个词元，σ 为 1.2 与 0.9，× ${scale}`,
      alpaca: (scale) => `对数正态，均值取论文中 Alpaca 的 19.31（提示词）与 58.45（输出）个词元，σ 为 0.4 与 0.9，× ${scale}`,
      uniform: () => "提示词与输出各为 1 个词元至 max_model_len 的一半", constant: () => "提示词与输出各为 max_model_len 的八分之一",
    },
    synthetic: "所有长度均为合成数据，按种子抽取；论文没有给出方差，σ 由我们选定。论文所用模型的上下文为 2048，因此长度按 max_model_len / 2048 缩放；超过 max_model_len 的请求会重新抽取。",
    drawnColumns: ["分布", "形状", "提示词均值", "输出均值", "最长"],
    columns: ["分布", "方案", "可容纳（计算）", "同时运行，最多", "同时运行，平均", "浪费（计算）", "浪费（实测）", "占用峰值时的浪费", "抢占次数", "输出 tok/s", "TTFT ms"],
    columnsShort: ["分布", "方案", "可容纳", "同时运行", "浪费", "实测", "抢占", "tok/s", "TTFT ms"],
    columnsAre: "可容纳（计算）：按到达顺序、以最终长度计的序列数。浪费（计算）：在每个请求的整个生命期内，每生成一个词元取一个样本。浪费（实测）：按前向计算平均，以主机所知的缓存状态为准：尚未读回的步骤所写的词元算作已占用，但还不算已存放。" +
      "分页的序列起初只占用其提示词所需的空间，所以同时运行的数量可以多于按最终长度能容纳的数量；放不下时会发生抢占。",
    allRequests: (requests) => `同时运行数为 ${requests} 之处，请求总共只有这么多：限制来自请求数，而不是显存。`,
    claims: "论文作者测得当时的系统中仅有 20.4 % 至 38.2 % 的预留缓存真正有用，分页后为 96.3 %（图 2）；其发布公告的说法是此前浪费 60–80 %，此后不到 4 %。",
    claimColumns: ["分布", "有效占比，连续·按上限预留", "论文的 20.4–38.2 %", "浪费，分页（计算）", "低于 4 %", "浪费，分页（实测）", "低于 4 %"],
    claimRange: { below: "低于该范围", within: "在该范围内", above: "高于该范围" },
    holds: "成立", holdsNot: "不成立",
    whyNot: (block, mean, tokens) => `无论序列多长，分页序列的最后一块平均有（${block} − 1）/ 2 个词元的空位：本次平均每 ${tokens} 个词元空 ${mean} 个。` +
      "块大而文本短时浪费超过 4 %，文本长时则低于 4 %；连续·按上限预留的浪费完全取决于 max_model_len。",
    admitted: (name, from, to, fromMean, toMean) => `${name}：利用空出的显存，分页最多同时运行 ${to} 个序列（平均 ${toMean} 个），而连续·按上限预留为 ${from} 个（平均 ${fromMean} 个）。`,
    inDistribution: (name, text) => `${name}：${text}`,
    raw: "每一轮每个请求的数据见 JSON 报告。",
  },
  weights: weightsZh,
  press: pressZh,
  spec: specZh,
  gates: gatesZh,
  versus: versusZh,
  combos: combosZh,
  page: pageZh,
};
