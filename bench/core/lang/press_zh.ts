/** KV 压缩实验的全部文字，中文。与 press_en.ts 的键一一对应。 */

import type { pressEn } from "./press_en.ts";

export const pressZh: typeof pressEn = {
  knorm: (level, name) => `KnormPress：裁剪缓存的代价与收益（${level}，${name}）`,
  capacity: (level, name) => `KV 压缩：固定预算下的序列数（${level}，${name}）`,
  files: { knorm: (level, name) => `KnormPress压缩_experiment_${level}_${name}`,
    capacity: (level, name) => `KVPress压缩_experiment_${level}_${name}` },
  arms: { none: "不压缩", again: "不压缩，对照（A/A）", keep: (ratio) => `保留 ${ratio}`, press: (name, ratio) => `${name}（${ratio}）` },
  heads: { table: "方案与指标", charts: "图表", did: "压缩做了什么", quality: "压缩下的质量", claims: "来源的说法与本次实测", admitted: "固定预算下的序列数" },

  oneModel: "所有方案由同一个模型实例运行，权重、内核和缓存池完全相同，不同的只是各请求的要求。预热之后，各方案在每一轮内按种子随机排序，轮流运行。不压缩的方案运行两次：两者之差就是噪声。",
  samples: (samples, prompt, fresh, after, layers) =>
    `${samples} 个样本，各有 ${prompt} 个提示词词元，逐个运行，每个生成 ${fresh} 个新词元；某层的条目达到 ${after} 个之后，每生成一个词元就裁剪一次；不裁剪的层：${layers}。`,
  requests: (requests, prompt, fresh, budget, tokens) =>
    `${requests} 个请求同时到达，各有 ${prompt} 个提示词词元和 ${fresh} 个新词元；缓存池为 ${budget}，可存放一个序列的 ${tokens} 个词元。同时运行的数量只受显存限制。提示词读完后压缩一次。`,
  control: "`random` 随机淘汰，是每次运行都有的阴性对照。代价不低于 random 的方法等于没有做出选择。",
  noLayers: "无",

  invalidArm: (arm, reason) => `**无效** ${arm}：${reason}。不由此作任何结论。`,
  tooShort: (prompt, fresh, after) => `样本有 ${prompt} 个词元，加 ${fresh} 个新词元，少于 prune_after ${after}：没有裁剪任何条目`,
  notEvicted: (events, prompt, fresh) => `压缩执行了 ${events} 次，但在 ${prompt} 个词元加 ${fresh} 个新词元的请求上没有淘汰任何条目`,
  notScored: "测量困惑度时没有淘汰任何条目",
  sameAsRandom: (arm, random) => `\`${arm}\` 的预测与 \`${random}\` 到最后一位都相同，说明它没有做出任何选择`,
  texts: (same, of) => `不淘汰任何条目的各方案，在 ${of} 段文本中有 ${same} 段写出了相同内容`,
  textsDiffer: (differing, of) => `没有淘汰任何条目的各方案在 ${of} 段贪心文本中有 ${differing} 段不同，因此任何差异都不能归于淘汰`,
  noneValid: "没有任何方案淘汰过条目，因此无法对压缩作出结论。",

  against: (arm) => `${arm}相对不压缩：`,
  nullArm: (arm) => `${arm}相对不压缩（执行一次但保留全部条目，即启用压缩本身的代价）：`,
  did: (arm, events, kept, seen, freed) => `${arm}：每个请求执行 ${events} 次；最后一次执行后，读过的 ${seen} 个词元在每个 KV 头留下 ${kept} 个条目，共归还 ${freed}`,
  nullDid: (arm, events) => `${arm}：每个请求执行 ${events} 次，没有淘汰任何条目，符合预期`,
  ppl: (ratio, verdict, kld, top) => `困惑度相对不压缩（相同词元）${ratio}，${verdict}；KLD 每词元 ${kld} 奈特，首选词元一致 ${top}`,
  pplIs: { same: "差异未超过两个标准误", higher: "升高，更差", lower: "降低，更好" },
  ran: (to, from, ratio) => `同时运行的序列数：${to}，不压缩为 ${from}（${ratio} 倍）`,
  ranSame: (to, from) => `同时运行的序列数：${to}，不压缩为 ${from}：没有可测出的差异`,
  noBetterThanRandom: (arm, random, ratio, other) => `${arm}的困惑度代价（${ratio}）不低于${random}（${other}）`,

  knormColumns: ["方案", "首词元延迟 ms", "其中压缩 ms", "每词元耗时 ms", "输出吞吐量 tok/s", "留下的条目", "归还", "显存峰值", "困惑度", "困惑度变化", "散度 KLD，10⁻³ 奈特", "首选词元一致"],
  knormColumnsAre: "按轮统计的中位数。首词元延迟中的压缩时间：由只要求一个词元的请求测得。留下的条目：最后一次压缩之后每个 KV 头的条目数，按层平均。归还：一个请求归还的块的字节数，连同每个条目旁 4 字节的范数。" +
    "显存峰值：取自账本；缓存池在开始时一次预留，各方案相同，因此淘汰空出的是供其他序列使用的块，而不是设备的字节。± 为一个标准误。",
  capacityColumns: ["方案", "同时运行的序列数", "平均", "输出吞吐量 tok/s", "首词元延迟 ms", "抢占次数", "留下的条目", "每个序列归还", "困惑度", "困惑度变化", "散度 KLD，10⁻³ 奈特",
    "首选词元一致"],
  capacityColumnsAre: "同时运行的序列数：单步的最大值，取各轮的中位数；平均：按前向计算平均。首词元延迟从全部请求到达时算起，因此包括等待位置的时间。" +
    "留下的条目：提示词之后每个 KV 头的条目数。归还：一个序列压缩时归还的块的字节数，连同某些压缩方法要求写在每个条目旁的附注（范数 4 字节，注意力 8 字节；各方案都有，且不计入预算）。± 为一个标准误。",
  didColumns: ["方案", "每个请求的次数", "每个请求的压缩 ms", "占总时间", "每次 ms", "淘汰的条目，各头各层合计", "各层留下", "块中占用：提示词之后", "结束时", "最多"],
  didColumnsAre: "条目：某一层某一 KV 头的一个键和一个值。留下与占用均按一个 KV 头计。每生成一个词元就裁剪时，某层每次重新增长到 prune_after 就被裁剪一次，其长度在“保留比例 × prune_after”与 " +
    "prune_after 之间往复：" +
    "长文本最终留下的比例是 prune_after 除以词元数，与保留比例无关；保留比例越高，裁剪越频繁，代价未必越小。块中占用：取第一个样本，按层和 KV 头平均，以主机所知为准。",
  quality: {
    decode: (context, windows, dataset) => `协议 \`decode(${context})\`，${dataset} 的 ${windows} 个窗口：逐词元进行，每个词元都由此前已压缩的缓存来评分。`,
    "prefill-continue": (context, continuation, windows, dataset) =>
      `协议 \`prefill-continue(${context}, ${continuation})\`，${dataset} 的 ${windows} 个窗口：` +
        `读入 ${context} 个词元，压缩一次，再以留下的条目为随后的 ${continuation} 个词元评分。`,
    same: "每种方法都与同一个模型实例在相同词元上的不压缩结果比较；误差逐词元配对，取按词元与按窗口两种标准误中较大的一个。单次前向计算看不到压缩：压缩执行时注意力已经算完。",
    none: "没有测量困惑度：运行未到这一步。", random: "没有测量困惑度：权重是随机数。",
  },

  claims: {
    intro: "两份 KnormPress 指南给出的 Pythia-70M 数据：首词元延迟此前为 0.0623 s，保留比例 0.9、0.8、0.7 时为 0.0080、0.0066、0.0063 s；吞吐量此前为每秒 84.16 个词元，之后为 77.69、" +
      "76.79、76.45；困惑度均为 75.03。",
    columns: ["说法", "本次实测", "本次是否成立"],
    ttft: "首词元延迟 −87 % 至 −90 %", throughput: "吞吐量 −8 % 至 −9 %", ppl: "困惑度不变（各比例均为 75.03）",
    ratioIs: (arm, change) => `${arm}：${change}`,
    yes: "成立", no: "不成立", unclear: "无法判断：没有有效的方案", unresolved: "无法判断：误差大于变化",
    whyTtft: "−87 % 是怎样得来的：读完提示词就立即记下首词元的时刻，此时尚未裁剪任何条目，保留比例不可能影响它。基线最先运行且未经预热，用的是通用的生成循环；裁剪的各次运行在后，已经预热，用的是精简的循环。" +
      "测到的其实是预热。压缩只会增加首词元延迟：若在首词元之前执行，增加的就是它所用的时间。",
    whyThroughput: "−8 % 是怎样得来的：按 100 个词元计算，所给数据相当于不裁剪时每词元 11.4 ms，裁剪时 12.9 ms。条目变少不会使注意力变慢；测到的是每生成一个词元都在主机上对键排序并重建缓存的开销。" +
      "这里的选择与搬移都在设备上进行，其代价以执行用时列出。",
    whyPpl: "困惑度不变是怎样得来的：它由另一次不压缩的前向计算得出，而且样本只有 111 和 122 个词元，加上 100 个新词元，少于 prune_after 512，从未裁剪过任何条目。各比例的数值完全相同，说明什么都没有发生。",
  },
  charts: { comprehensive: "首词元延迟、每词元耗时、吞吐量、首词元延迟的改善、吞吐量的变化、困惑度", summary: "各项指标占不压缩的百分比", tradeoff: "首词元延迟与困惑度", table: "精确数值",
    capacity: "同时运行的序列数与质量代价" },
  noChart: (reason) => `没有绘制图表：${reason}。`,
  missing: "未测量",
  shortColumns: { ppl: "困惑度变化", kept: "留下", freed: "归还", running: "同时运行" },
};
