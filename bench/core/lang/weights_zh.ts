/** 权重数值格式实验的全部文字，中文。与 weights_en.ts 的键一一对应。 */

import { FORMAT_NAMES, type weightsEn } from "./weights_en.ts";

export const weightsZh: typeof weightsEn = {
  arms: { basic: "基础", again: "对照（A/A）", quantized: "量化", ...FORMAT_NAMES },
  label: (name, format) => (name === format ? format : name === "again" ? `${format} 对照` : `${name === "basic" ? "基础" : name === "quantized" ? "量化" : name}（${format}）`),
  experiment: (name) => `量化实验：${name}`,
  comparison: (level, name) => `量化：节省了什么，代价是什么（${level}，${name}）`,
  precision: (level, name) => `精度：权重的数值格式（${level}，${name}）`,
  titles: {
    basic: (format) => `基础推理：权重为 ${format}`, again: (format) => `对照：第一个方案再运行一次，权重为 ${format}`,
    quantized: (format) => `优化推理：权重量化为 ${format}`, format: (format) => `权重为 ${format}`,
  },
  files: {
    basic: "基础推理_report", quantized: "优化推理_report", comparison: (level, name) => `comparison_experiment_${level}_${name}`,
    precision: (level, name) => `精度_experiment_${level}_${name}`,
  },
  heads: { weights: "权重", quality: "质量", table: "格式与指标", chart: "图表" },
  and: "，",
  heldAs: (format, matrices, bytes) => `${matrices} 个矩阵存为 ${format}（${bytes}）`,
  holds: (arm, held) => `${arm}：${held}`,
  notHeld: (arm, format) => `${arm}没有任何矩阵存为 ${format}：该技术没有生效`,
  savesNothing: (arm, bytes, basic) => `${arm}的权重占 ${bytes}，基础方案占 ${basic}：量化没有节省任何空间`,
  outliers: (arm, columns, elements) => `${arm}：有 ${elements} 个激活达到阈值，连同其所在的列以全精度相乘，共涉及 ${columns} 列`,
  noOutliers: (arm) => `${arm}：没有激活达到阈值，所有乘法均为整数运算`,
  controlTexts: (same, of) => `两个相同的方案在 ${of} 段文本中有 ${same} 段写出了相同内容`,
  controlDiffers: (differing, of) => `两个相同的方案在 ${of} 段贪心文本中有 ${differing} 段不同，因此任何差异都不能归于权重`,
  textsInTurn: "各方案没有同时运行，因此没有比较文本",
  textsNotCompared: "两个相同的方案没有都完成一轮，因此没有比较文本",
  lossy: "不同格式可能写出不同的文本，因此不在格式之间比较文本；每个请求在所有方案中都写出同样数量的词元。",
  together: "所有方案同时加载，并在每一轮中轮流运行。",
  inTurn: "显存放不下全部方案，或配置如此要求：各方案依次加载，前一个跑完全部轮次后才轮到下一个。其间机器状态的变化会偏向其中一些方案；两个相同的方案显示了这种偏差有多大。",
  againstFirst: (arm, first) => `${arm}相对${first}：`,
  takes: (arm, bytes, share, first) => `${arm}的权重：${bytes}，为${first}的 ${share}`,
  ratio: (arm, other, ratio, verdict) => `${arm}的困惑度是${other}的 ${ratio} 倍，${verdict}`,
  ratioIs: { same: "差异未超过两个标准误", higher: "升高，更差", lower: "降低，更好" },

  tableColumns: ["权重格式", "每个权重的字节数", "权重", "显存峰值", "困惑度", "相对 f32 的 KLD", "首选词元一致", "解码速度", "预填充速度"],
  tableIs: (first) => `每个权重的字节数：只计以该格式存放的矩阵，含缩放系数；词嵌入、输出层与归一化可能仍为浮点，计入下一列。` +
    `困惑度、KLD 与首选词元一致的比例附一个标准误，KLD 的单位为每词元 10⁻³ 奈特。速度是${first}的倍数（TPOT 与 TTFT 的中位数）；≈ 表示没有可测出的差异。`,
  rows: {
    held: (format) => `存为 ${format} 的矩阵`, weightsOf: (matrices, weights, bytes, each) => `${matrices} 个：${weights} 个权重，${bytes}，每个 ${each} 字节`,
    ledger: "账本中的权重", expected: "按计算应为", difference: "差别", outliers: "以全精度保留的激活",
    outlierColumns: (columns, elements) => `${columns} 列中的 ${elements} 个`,
  },
  notKnown: "无法由配置得知",
  quality: {
    perplexity: "困惑度", nll: "平均负对数似然（奈特）", scored: "计分词元数", windows: "窗口数", kld: (other) => `相对${other}的 KLD（奈特）`,
    kldSpread: (other) => `相对${other}的 KLD：中位数、p99、最大值`, top: (other) => `与${other}首选词元一致`, ratio: (other) => `困惑度与${other}之比`,
    isItself: "即其自身", missing: { noRoom: "没有显存同时加载另一个模型", notMeasured: "未测量" },
    none: "未测量困惑度：配置没有要求。", random: "未测量困惑度：权重是随机的。",
  },
  corpus: (name, context, protocol, sha) => `文本：${name}（SHA-256 \`${sha}…\`），窗口为 ${context} 个词元。${protocol}`,
  protocols: {
    strided: (stride) => `协议 \`hf-strided\`：每隔 ${stride} 个词元一个窗口，每个窗口只对之前的窗口没有计分的词元计分。`,
    "llama.cpp": () => "协议 `llama.cpp`：窗口互不重叠，每个窗口只对后一半计分。",
    "lm-eval-rolling": () => "协议 `lm-eval-rolling`：窗口互不重叠，每个词元都计分，每个窗口的第一个词元接在前一窗口的最后一个词元之后。",
    decode: () => "协议 `decode`：逐个词元经过缓存，与生成时相同。",
    "prefill-continue": () => "协议 `prefill-continue`：窗口互不重叠，只对上下文之后的部分逐词元评分。",
  },
  qualityIs: "困惑度是全部计分词元的平均值取指数，而不是各窗口的平均。KLD 是相同位置上下一词元分布的 KL(另一模型 ‖ 本模型)，按词元平均。" +
    "比值的误差是逐词元配对之差的误差，远小于任一困惑度自身的误差。标准误取按词元（与 llama.cpp 相同）与按窗口两者中较大的一个。全部测量都经过被计时的内核与缓存。",
  chartAt: (file) => `![吞吐量、TPOT、TTFT、困惑度、显存，以及显存对困惑度的帕累托图](${file})`,
  noChart: (reason) => `没有绘制图表：${reason}。`,
  weightsShort: "权重", ppl: "困惑度", kldShort: "相对 f32 的 KLD",
  approx: "≈ 表示没有可测出的差异。",
  fileNote: (file) => `每个请求与每个方案的数据见 \`${file}\`。`,
};
