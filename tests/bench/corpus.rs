//! What is counted: real text where there is some, otherwise text made from a seed, so that every
//! machine measures the same without a network and without large files in the repository.

use crate::sources;

pub(crate) const ENGLISH: &str = include_str!("../fixtures/text/english.txt");
const CHINESE: &str = include_str!("../fixtures/text/chinese.txt");
const RUST: &str = include_str!("../../src/tokens/count.rs");

/// Endings of what a person or a machine may well send to a model.
const EXTENSIONS: [&str; 9] = [
    ".rs", ".md", ".toml", ".c", ".h", ".py", ".pl", ".S", ".json",
];

/// Frequent words beyond those of the essay, so that its clauses do not come back as they were.
const CHINESE_WORDS: &str = "时间 工作 问题 国家 学生 老师 朋友 世界 历史 社会 经济 技术 科学 研究 发展 城市 农村 天气 \
春天 夏天 秋天 下雨 刮风 太阳 月亮 星星 山水 河流 大海 森林 花园 桥梁 火车 飞机 汽车 自行车 电脑 手机 网络 程序 数据 \
文字 语言 模型 计算 结果 原因 方法 办法 计划 目标 经验 教训 机会 困难 希望 快乐 悲伤 健康 医院 医生 护士 药品 运动 足球 \
音乐 电影 小说 诗歌 画家 作者 读者 报纸 新闻 消息 电话 邮件 地址 房子 窗户 门口 桌子 椅子 杯子 茶叶 咖啡 米饭 面条 水果 \
苹果 蔬菜 市场 商店 价格 便宜 昂贵 银行 税收 合同 法律 政府 会议 决定 选择 比较 分析 讨论 介绍 解释 说明 认为 觉得 知道 \
发现 开始 结束 继续 停止 增加 减少 提高 降低 改变 影响 关系 条件 环境 保护 能源 安全 危险 战争 和平 民族 文化 传统 节日 \
家庭 父亲 母亲 哥哥 姐姐 弟弟 妹妹 孩子 老人 邻居 客人 主人 将军 工人 农民 商人 律师 记者 非常 特别 突然 终于 也许 大概 \
几乎 已经 曾经 正在 将要 一直 常常 偶尔 从来 因此 然而 虽然 如果 即使 无论 只要 除非 按照 根据 关于 对于 通过 随着 由于 \
北京 上海 广州 杭州 成都 西安 长江 黄河 昆仑 敦煌 鹦鹉 蜻蜓 葡萄 玫瑰 蝴蝶 琵琶 琥珀 犹豫 徘徊 崎岖 慷慨 澎湃 憔悴 踌躇";

/// Reproducible randomness (xorshift*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The start of a text, of at most so many bytes.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The text again and again, up to so many bytes.
pub(crate) fn repeat(text: &str, bytes: usize) -> String {
    cut(&text.repeat(bytes / text.len() + 1), bytes).to_string()
}

/// Parts as joined by `part`, up to so many bytes.
pub(crate) fn grow(bytes: usize, mut part: impl FnMut(&mut String)) -> String {
    let mut text = String::with_capacity(bytes + 4 * 1024);
    while text.len() < bytes {
        part(&mut text);
    }
    cut(&text, bytes).to_string()
}

/// English prose: an essay, repeated.
pub(crate) fn english(bytes: usize) -> String {
    repeat(ENGLISH, bytes)
}

/// Rust: a file of this repository, repeated.
pub(crate) fn rust(bytes: usize) -> String {
    repeat(RUST, bytes)
}

/// Text and code as they come: the sources of the dependencies, in an order that mixes the packages
/// and is the same everywhere.
pub(crate) fn mixed(bytes: usize) -> String {
    let text = every_source();
    if text.len() < bytes {
        return repeat(text, bytes);
    }
    cut(text, bytes).to_string()
}

/// One part after another of the same, none of them twice as long as there is one.
pub(crate) fn mixed_part(number: usize, bytes: usize) -> String {
    let text = every_source();
    let mut from = number * bytes % (text.len() - bytes.min(text.len() - 1));
    while !text.is_char_boundary(from) {
        from += 1;
    }
    cut(&text[from..], bytes).to_string()
}

/// All of them, put together once.
fn every_source() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(read_every_source)
}

fn read_every_source() -> String {
    let mut sources = sources::all();
    sources.retain(|source| EXTENSIONS.iter().any(|end| source.name.ends_with(end)));
    sources.sort_by_key(|source| fnv1a(source.name.as_bytes()));
    let mut text = String::new();
    for source in sources {
        // NUL is no text to `omk`.
        let part = source.text().filter(|text| !text.contains('\0'));
        text.push_str(&part.unwrap_or_default());
    }
    text
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Chinese prose: the essay first, then its clauses recombined, most of them with words put in or
/// exchanged. Left as they were, a cache of pieces would know nearly all of them.
pub(crate) fn chinese(bytes: usize) -> String {
    chinese_of(20, bytes)
}

/// The same from this seed.
pub(crate) fn chinese_of(seed: u64, bytes: usize) -> String {
    let stops = ['。', '？', '！', '；', '，', '：', '\n'];
    let clauses = CHINESE.split(stops).filter(|clause| clause.len() > 6);
    let clauses: Vec<Vec<char>> = clauses.map(|clause| clause.chars().collect()).collect();
    let words: Vec<&str> = CHINESE_WORDS.split_whitespace().collect();
    let mut random = Random::new(seed);
    let mut is_first = true;
    grow(bytes, |text| {
        if std::mem::take(&mut is_first) {
            text.push_str(CHINESE);
        }
        for _ in 0..=random.below(4) {
            let mut clause = clauses[random.below(clauses.len())].clone();
            for _ in 0..random.below(4) {
                let at = random.below(clause.len());
                let until = (at + random.below(3)).min(clause.len());
                clause.splice(at..until, random.pick(&words).chars());
            }
            text.extend(clause);
            text.push('，');
        }
        text.pop();
        text.push(random.pick(&['。', '。', '。', '。', '！', '？', '；']));
        if random.below(6) == 0 {
            text.push('\n');
        }
    })
}

/// Characters from all of Unicode, low ones more often; no NUL, which is no text to `omk`.
pub(crate) fn unicode_of(seed: u64, bytes: usize) -> String {
    // No seed may be zero.
    let mut random = Random::new(21 + seed);
    grow(bytes, |text| {
        let limit = random.pick(&[0x80, 0x800, 0x3000, 0xa000, 0x1_0000, 0x3_0000, 0x11_0000]);
        text.extend(char::from_u32(1 + random.below(limit - 1) as u32));
    })
}

/// JSON as an interface answers it: records of ids, numbers, dates and short texts.
pub(crate) fn json_of(seed: u64, bytes: usize) -> String {
    let words: Vec<&str> = ENGLISH.split_whitespace().collect();
    let mut random = Random::new(seed);
    grow(bytes, |text| {
        let id = format!("{:016x}", random.next());
        let said: Vec<&str> = (0..random.below(12)).map(|_| random.pick(&words)).collect();
        let record = serde_json::json!({
            "id": id,
            "created_at": format!("2026-{:02}-{:02}T{:02}:30:00Z", 1 + random.below(12), 1 + random.below(28), random.below(24)),
            "amount": random.below(1_000_000) as f64 / 100.0,
            "usage": { "input_tokens": random.below(200_000), "output_tokens": random.below(9_000) },
            "tags": [random.pick(&words), random.pick(&words)],
            "is_final": random.below(2) == 0,
            "note": said.join(" "),
        });
        let line = if random.below(2) == 0 {
            serde_json::to_string(&record)
        } else {
            serde_json::to_string_pretty(&record)
        };
        text.push_str(&line.unwrap());
        text.push('\n');
    })
}
