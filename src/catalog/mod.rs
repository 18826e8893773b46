//! Models as data: what a name means, which vocabulary it reads, how much fits, and what it costs.
//!
//! There is one price list, `models.json`, compiled in; every row says where its figures come from and how old they are.
//! A price file, a models.dev snapshot or `--price` overrides rows of it. The catalog refuses to guess: a name is found
//! exactly or not at all, an unknown price is no price, and a rate that a bill needs and that is not listed is billed at the
//! full input rate and reported.

pub mod host;
pub mod models_dev;
pub mod money;
pub mod price_file;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error as _;

use crate::catalog::host::Biller;
use crate::catalog::money::Currency;
use crate::catalog::money::Rate;
use crate::catalog::money::Usd;
use crate::catalog::price_file::PriceFile;
use crate::catalog::price_file::PriceRow;
use crate::runtime::text;
use crate::tokens::Vocabulary;
pub use crate::tokens::usage::TokenCounts;

const BUILTIN: &str = include_str!("models.json");
/// Prices that hold at one host. That of K3 in CNY: platform.kimi.com as quoted in kimi-code#3942.
const HOSTED: &str = r#"[{"model": "kimi-k3", "provider": "moonshotai-cn", "host": "api.moonshot.cn", "currency": "CNY",
"input": 20, "cached_input": 2, "cache_write": 20, "cache_write_1h": 40, "output": 100, "as_of": "2026-09-19",
"source": "MoonshotAI/kimi-code#3942"}]"#;

/// What the tokens of one tier cost, in USD per 1M tokens. An absent rate is unknown, not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rates {
    /// Prompt tokens read afresh.
    pub input: Rate,
    /// Prompt tokens out of the cache.
    pub cached_input: Option<Rate>,
    /// Prompt tokens written to the cache for five minutes.
    pub cache_write: Option<Rate>,
    /// Prompt tokens written to the cache for an hour. Listed; no bill uses it yet, since no service reports it apart.
    pub cache_write_1h: Option<Rate>,
    /// Tokens of the answer.
    pub output: Rate,
}

/// Rates that hold above a size of prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tier {
    /// The tier holds for prompts of more tokens than this.
    pub above: u64,
    /// Its rates, for the whole prompt and the whole answer.
    #[serde(flatten)]
    pub rates: Rates,
}

/// What a model costs. Its JSON is the rates of a row of a [price file](price_file), unknown ones as `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Price {
    #[serde(flatten)]
    rates: Rates,
    /// Ascending by `above`.
    tiers: Vec<Tier>,
    #[serde(skip)]
    currency: Currency,
}

impl Price {
    /// A price with these rates, and with others above some sizes of prompt, in any order.
    pub fn new(rates: Rates, mut tiers: Vec<Tier>) -> Price {
        tiers.sort_by_key(|tier| tier.above);
        Price {
            rates,
            tiers,
            currency: Currency::Usd,
        }
    }

    /// The same figures in another currency.
    #[must_use]
    pub fn in_currency(self, currency: Currency) -> Price {
        Price { currency, ..self }
    }

    /// What it is in.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// The rates for a small prompt.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The tiers above it, smallest first.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The tier that a prompt of this size is billed by; nothing for a small one.
    ///
    /// As models.dev's schema has it: above a tier's size the whole prompt and the answer take its rates, cached tokens
    /// count towards the size.
    pub fn tier_for(&self, prompt_tokens: u128) -> Option<&Tier> {
        self.tiers
            .iter()
            .rev()
            .find(|tier| prompt_tokens > u128::from(tier.above))
    }

    /// The most that a prompt and an answer of at most so many tokens can be billed: every prompt token at the highest
    /// rate that applies to prompts, in the most expensive tier that such a prompt can fall into.
    pub fn most(&self, input: u64, output: u64) -> Usd {
        let tiers = self.tiers.iter().filter(|tier| tier.above < input);
        let rates = std::iter::once(&self.rates).chain(tiers.map(|tier| &tier.rates));
        let bills = rates.map(|rates| {
            // No request of omk asks for the cache of an hour.
            let cached = [rates.cached_input, rates.cache_write];
            let prompt = cached.into_iter().flatten().fold(rates.input, Rate::max);
            prompt.times(input) + rates.output.times(output)
        });
        bills.fold(Usd::ZERO, Usd::max)
    }

    /// The bill for these tokens, exact.
    ///
    /// Cached tokens without a listed rate are billed at the full input rate: a bill may be too high, and says so, but
    /// never counts a token as free because its price is not listed.
    pub fn cost(&self, counts: &TokenCounts) -> Bill {
        let tier = self.tier_for(counts.prompt());
        let rates = tier.map_or(&self.rates, |tier| &tier.rates);
        Bill {
            input: rates.input.times(counts.input_uncached),
            cache_read: rates
                .cached_input
                .unwrap_or(rates.input)
                .times(counts.cache_read),
            cache_write: rates
                .cache_write
                .unwrap_or(rates.input)
                .times(counts.cache_write),
            output: rates.output.times(counts.output),
            tier_above: tier.map(|tier| tier.above),
            cache_read_rate_unknown: rates.cached_input.is_none() && counts.cache_read > 0,
            cache_write_rate_unknown: rates.cache_write.is_none() && counts.cache_write > 0,
        }
    }
}

/// What some tokens cost, item by item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// For [`TokenCounts::input_uncached`].
    pub input: Usd,
    /// For [`TokenCounts::cache_read`].
    pub cache_read: Usd,
    /// For [`TokenCounts::cache_write`].
    pub cache_write: Usd,
    /// For [`TokenCounts::output`].
    pub output: Usd,
    /// The size of prompt above which the rates used hold; nothing when they are the ordinary ones.
    pub tier_above: Option<u64>,
    /// No rate is listed for cached tokens and there were some: they are in at the full input rate.
    pub cache_read_rate_unknown: bool,
    /// No rate is listed for cache writes and there were some: they are in at the full input rate.
    pub cache_write_rate_unknown: bool,
}

impl Bill {
    /// The sum.
    pub fn total(&self) -> Usd {
        self.input + self.cache_read + self.cache_write + self.output
    }
}

/// How a chat request is wrapped into the prompt that a model reads; `llm::cost` holds the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Template {
    /// Kimi K2 and its kin, and Moonshot v1: `<|im_user|>user<|im_middle|>...<|im_end|>`.
    #[serde(rename = "kimi")]
    Kimi,
    /// Kimi K3: `<|open|>message role="user"<|sep|>...`.
    #[serde(rename = "kimi-k3")]
    KimiK3,
    /// OpenAI chat models.
    #[serde(rename = "openai-chat")]
    OpenAiChat,
    /// Not public, or no chat model.
    #[serde(rename = "none")]
    None,
}

impl Template {
    /// The name in `models.json` and in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            Template::Kimi => "kimi",
            Template::KimiK3 => "kimi-k3",
            Template::OpenAiChat => "openai-chat",
            Template::None => "none",
        }
    }
}

/// How use of a model is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Billing {
    /// By the token.
    #[default]
    Metered,
    /// By a flat fee: there is no price per token, which is not a price of nothing.
    Subscription,
}

impl Billing {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Billing::Metered => "metered",
            Billing::Subscription => "subscription",
        }
    }
}

/// Whether a model still answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In service.
    #[default]
    Current,
    /// In service, with an end announced or reported.
    Deprecated,
    /// No longer served by its maker.
    Retired,
}

impl Status {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Status::Current => "current",
            Status::Deprecated => "deprecated",
            Status::Retired => "retired",
        }
    }
}

/// Where the price of a row comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Compiled in.
    Builtin,
    /// The user's price file.
    PriceFile(Arc<PathBuf>),
    /// A stored models.dev document.
    ModelsDev {
        /// The file.
        path: Arc<PathBuf>,
        /// When it was fetched, RFC 3339.
        fetched_at: Arc<str>,
    },
    /// `--price` on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Builtin => f.write_str("builtin"),
            Origin::PriceFile(path) => f.write_str(&text::escape(&path.display().to_string())),
            Origin::ModelsDev { path, fetched_at } => {
                let path = path.display().to_string();
                write!(f, "models.dev of {fetched_at} in {}", text::escape(&path))
            }
            Origin::Flag => f.write_str("--price"),
        }
    }
}

/// One row of the catalog.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name to ask the service for.
    pub id: Cow<'static, str>,
    /// Other names of the very same thing at the same price.
    pub aliases: Vec<Cow<'static, str>>,
    /// Who serves it, by models.dev's names; empty when unknown.
    pub provider: Cow<'static, str>,
    /// The vocabulary to count with.
    pub vocabulary: Vocabulary,
    /// Whether that is the model's own vocabulary; otherwise it is the nearest public one and counts are approximate.
    pub exact: bool,
    /// How its chat requests are wrapped.
    pub template: Template,
    /// Tokens that fit, prompt and answer together.
    pub window: Option<u64>,
    /// Tokens of the longest answer.
    pub max_output: Option<u64>,
    /// The price, if there is one per token and it is known.
    pub price: Option<Price>,
    /// How it is paid for.
    pub billing: Billing,
    /// Whether it is still served.
    pub status: Status,
    /// The date its service ended or will end.
    pub ends: Option<Cow<'static, str>>,
    /// The day or month for which the figures are known to hold; empty when unknown.
    pub as_of: Cow<'static, str>,
    /// Where a reader finds the figures again; empty when unknown.
    pub source: Cow<'static, str>,
    /// What else one should know, among it sources that disagree.
    pub note: Option<Cow<'static, str>>,
    /// Where the price comes from.
    pub origin: Origin,
    /// The price is listed for this host and no other.
    pub host: Option<String>,
}

impl Model {
    /// A model that the catalog does not hold: countable by rule, without a price.
    pub fn unknown(name: &str) -> Model {
        let (vocabulary, exact) = vocabulary_for(name);
        let lower = bare_name(name).to_ascii_lowercase();
        let template = match vocabulary {
            Vocabulary::Kimi if lower.contains("k3") => Template::KimiK3,
            Vocabulary::Kimi => Template::Kimi,
            // The exact families without a chat: base models, completions and embeddings.
            _ if !exact || ["-002", "-instruct"].iter().any(|end| lower.ends_with(end)) => {
                Template::None
            }
            Vocabulary::O200k | Vocabulary::Cl100k if !lower.starts_with("text-") => {
                Template::OpenAiChat
            }
            _ => Template::None,
        };
        Model {
            id: Cow::Owned(name.to_string()),
            aliases: Vec::new(),
            provider: Cow::Borrowed(""),
            vocabulary,
            exact,
            template,
            window: None,
            max_output: None,
            price: None,
            billing: Billing::Metered,
            status: Status::Current,
            ends: None,
            as_of: Cow::Borrowed(""),
            source: Cow::Borrowed(""),
            note: None,
            origin: Origin::Builtin,
            host: None,
        }
    }

    /// Whether the price is one that the user gave, and no list that others made.
    fn has_own_price(&self) -> bool {
        matches!(self.origin, Origin::Flag | Origin::PriceFile(_))
    }

    fn is_called(&self, name: &str) -> bool {
        self.id.eq_ignore_ascii_case(name)
            || self
                .aliases
                .iter()
                .any(|alias| alias.eq_ignore_ascii_case(name))
    }

    /// Takes what a price row says; its price replaces this one whole.
    fn take(&mut self, row: &PriceRow, origin: &Origin) {
        self.price = row.price.clone();
        self.origin = origin.clone();
        self.host.clone_from(&row.host);
        self.as_of = Cow::Owned(row.as_of.clone().unwrap_or_default());
        self.source = Cow::Owned(row.source.clone().unwrap_or_default());
        // The note and the flat fee belonged to the builtin price; a row with a price says that tokens are metered.
        self.note = None;
        if row.price.is_some() {
            self.billing = Billing::Metered;
        }
        self.window = row.window.or(self.window);
        self.max_output = row.max_output.or(self.max_output);
        self.status = row.status.unwrap_or(self.status);
        if let Some(provider) = &row.provider {
            self.provider = Cow::Owned(provider.clone());
        }
        if let Some(vocabulary) = row.vocabulary {
            // Whoever names the vocabulary of a model is taken to know it.
            self.vocabulary = vocabulary;
            self.exact = true;
        }
    }
}

/// The models in force: the builtin rows with every override applied.
///
/// Most runs ask for one model, so the rows are read when someone wants more than one of them.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Empty until more than one builtin row is needed.
    models: OnceCell<Vec<Model>>,
    /// Rows for one host each.
    hosted: Vec<(PriceRow, Origin)>,
}

impl Default for Catalog {
    /// No rows at all.
    fn default() -> Catalog {
        Catalog {
            models: OnceCell::from(Vec::new()),
            hosted: Vec::new(),
        }
    }
}

impl Catalog {
    /// The rows compiled in.
    pub fn builtin() -> Catalog {
        Catalog {
            models: OnceCell::new(),
            hosted: Vec::new(),
        }
    }

    /// Every row, builtin order first.
    pub fn models(&self) -> &[Model] {
        self.models.get_or_init(builtin_rows)
    }

    /// The row of exactly that id or alias, case ignored; `provider/model` finds it under its own provider only.
    pub fn find(&self, name: &str) -> Option<&Model> {
        self.position(name).and_then(|at| self.models().get(at))
    }

    /// The row of that name, or the little that its name alone tells; see [`Model::unknown`].
    pub fn resolve(&self, name: &str) -> Cow<'_, Model> {
        let builtin = match self.models.get() {
            None => builtin_row(name),
            Some(_) => None,
        };
        if let Some(model) = builtin {
            return Cow::Owned(model);
        }
        match self.find(name) {
            Some(model) => Cow::Borrowed(model),
            None => Cow::Owned(Model::unknown(name)),
        }
    }

    /// The row of that name with the price that its biller at this host charges.
    ///
    /// A price that is listed for the host wins, then one that the user gave for the model. The price of a list is the
    /// list's provider's: another provider that is known gets none of it. At an unknown host it is only an assumption; see
    /// [`Catalog::is_assumed`].
    pub fn resolve_at(&self, name: &str, host: &str) -> Cow<'_, Model> {
        let model = self.resolve(name);
        if model.origin == Origin::Flag {
            let currency = Biller::of(host).currency();
            let mut model = model.into_owned();
            model.price = model.price.map(|price| price.in_currency(currency));
            return Cow::Owned(model);
        }
        if let Some((row, origin)) = self.hosted(name, host) {
            let mut model = model.into_owned();
            model.take(&row, &origin);
            return Cow::Owned(model);
        }
        let is_billed_so = match Biller::of(host) {
            Biller::Loopback | Biller::Unknown => true,
            Biller::Provider(provider, currency) => {
                let price = model.price.as_ref();
                let is_currency = price.is_none_or(|price| price.currency() == currency);
                is_currency && (model.has_own_price() || model.provider == provider)
            }
        };
        if is_billed_so || model.billing == Billing::Subscription {
            return model;
        }
        let mut model = model.into_owned();
        model.price = None;
        Cow::Owned(model)
    }

    /// Whether the price of a row is only assumed to be what a host charges: who bills there is unknown.
    pub fn is_assumed(model: &Model, host: &str) -> bool {
        Biller::of(host) == Biller::Unknown && model.host.is_none() && !model.has_own_price()
    }

    /// The row that is listed for this model at this host; the last one wins.
    fn hosted(&self, name: &str, host: &str) -> Option<(PriceRow, Origin)> {
        let is_meant = |row: &PriceRow| {
            row.model.eq_ignore_ascii_case(name)
                && row
                    .host
                    .as_deref()
                    .is_some_and(|of| host::is_same(of, host))
        };
        let listed = self.hosted.iter().rev().find(|(row, _)| is_meant(row));
        if listed.is_some() {
            return listed.cloned();
        }
        if Biller::of(host).currency() == Currency::Usd {
            return None;
        }
        // A test reads the constant.
        let builtin = PriceFile::parse(HOSTED.as_bytes(), Path::new("builtin")).ok()?;
        let row = builtin.rows().iter().find(|row| is_meant(row));
        row.map(|row| (row.clone(), Origin::Builtin))
    }

    /// Names that someone may have meant, for a hint and nothing else.
    pub fn suggest(&self, name: &str) -> Vec<&str> {
        let names = self
            .models()
            .iter()
            .flat_map(|model| std::iter::once(&model.id).chain(&model.aliases))
            .map(|name| &**name);
        text::near_misses(bare_name(name), names, 3)
    }

    /// Puts the rows of a price file in force. A row of a known name keeps what it does not say, except for rates: two
    /// price lists are never mixed within one model. A row for an alias is for that name only, which becomes a row of its
    /// own: the list knows the two apart even if we did not.
    pub fn apply(&mut self, file: &PriceFile) {
        for row in file.rows() {
            if row.host.is_some() {
                self.hosted.push((row.clone(), file.origin().clone()));
                continue;
            }
            self.split_alias(&row.model);
            self.change(&row.model, |model| model.take(row, file.origin()));
        }
    }

    /// Puts a price from the command line in force for one model.
    pub fn set_price(&mut self, name: &str, price: Price) {
        self.change(name, |model| {
            model.price = Some(price);
            model.origin = Origin::Flag;
            model.billing = Billing::Metered;
            model.as_of = Cow::Borrowed("");
            model.source = Cow::Borrowed("--price");
            model.note = None;
        });
    }

    fn position(&self, name: &str) -> Option<usize> {
        let exact = self.models().iter().position(|model| model.is_called(name));
        exact.or_else(|| {
            let (provider, bare) = name.split_once('/')?;
            self.models().iter().position(|model| {
                model.provider.eq_ignore_ascii_case(provider) && model.is_called(bare)
            })
        })
    }

    fn split_alias(&mut self, name: &str) {
        let owns = |model: &&mut Model| {
            model
                .aliases
                .iter()
                .any(|alias| alias.eq_ignore_ascii_case(name))
        };
        let mut models = self.take_models();
        if let Some(model) = models.iter_mut().find(owns) {
            model
                .aliases
                .retain(|alias| !alias.eq_ignore_ascii_case(name));
            let mut own = model.clone();
            own.id = Cow::Owned(name.to_string());
            own.aliases = Vec::new();
            models.push(own);
        }
        self.models = OnceCell::from(models);
    }

    /// The rows, to be put back.
    fn take_models(&mut self) -> Vec<Model> {
        self.models.take().unwrap_or_else(builtin_rows)
    }

    /// Changes the row of that name, or a new one.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Model)) {
        let at = self.position(name);
        let mut models = self.take_models();
        match at.and_then(|at| models.get_mut(at)) {
            Some(model) => change(model),
            None => {
                let mut model = Model::unknown(name);
                change(&mut model);
                models.push(model);
            }
        }
        self.models = OnceCell::from(models);
    }
}

/// The vocabulary that the name alone tells, and whether it is the model's own.
///
/// Every Kimi and Moonshot model reads Kimi's; OpenAI's are by the rules that OpenAI publishes with its tokenizer. Anything
/// else is counted with `o200k_base`, which is then only the nearest.
pub fn vocabulary_for(name: &str) -> (Vocabulary, bool) {
    let name = bare_name(name).to_ascii_lowercase();
    let of_moonshot = ["kimi", "moonshot"]
        .iter()
        .filter_map(|family| name.strip_prefix(family))
        .any(|rest| rest.is_empty() || rest.starts_with('-'));
    if of_moonshot {
        return (Vocabulary::Kimi, true);
    }
    match Vocabulary::of_openai_model(&name) {
        Some(vocabulary) => (vocabulary, true),
        None => (Vocabulary::O200k, false),
    }
}

/// The name without a `provider/` before it.
fn bare_name(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, bare)| bare)
}

/// The rows compiled in. The text is a constant that a test reads, so a failure cannot reach anyone; the fallback keeps the type
/// total.
fn builtin_rows() -> Vec<Model> {
    let rows: Vec<BuiltinRow> = serde_json::from_str(BUILTIN).unwrap_or_default();
    rows.into_iter().map(Model::from).collect()
}

/// The builtin row of that id or alias in the list's own spelling, without reading the others: each stands on a line of its
/// own. `None` says nothing about another spelling, nor about a name with a provider before it.
fn builtin_row(name: &str) -> Option<Model> {
    let quoted = format!("\"{name}\"");
    let mut from = 0;
    while let Some(at) = BUILTIN.get(from..)?.find(&quoted) {
        let at = from.saturating_add(at);
        let (before, after) = BUILTIN.split_at_checked(at)?;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let end = after
            .find('\n')
            .map_or(BUILTIN.len(), |length| at.saturating_add(length));
        let line = BUILTIN.get(start..end)?.trim_end_matches(',');
        let model = serde_json::from_str::<BuiltinRow>(line)
            .ok()
            .map(Model::from);
        if let Some(model) = model.filter(|model| model.is_called(name)) {
            return Some(model);
        }
        from = end;
    }
    None
}

/// A row as `models.json` writes it. Strings are borrowed from the program itself, so a start allocates little.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltinRow {
    model: &'static str,
    #[serde(default)]
    aliases: Vec<&'static str>,
    provider: &'static str,
    vocabulary: Vocabulary,
    exact: bool,
    template: Template,
    window: Option<u64>,
    max_output: Option<u64>,
    input: Option<BuiltinRate>,
    cached_input: Option<BuiltinRate>,
    cache_write: Option<BuiltinRate>,
    cache_write_1h: Option<BuiltinRate>,
    output: Option<BuiltinRate>,
    #[serde(default)]
    tiers: Vec<BuiltinTier>,
    #[serde(default)]
    billing: Billing,
    #[serde(default)]
    status: Status,
    ends: Option<&'static str>,
    as_of: &'static str,
    source: &'static str,
    note: Option<&'static str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltinTier {
    above: u64,
    input: BuiltinRate,
    cached_input: Option<BuiltinRate>,
    cache_write: Option<BuiltinRate>,
    output: BuiltinRate,
}

#[derive(Clone, Copy)]
struct BuiltinRate(Rate);

impl<'de> Deserialize<'de> for BuiltinRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Rate::from_f64(number)
            .map(BuiltinRate)
            .map_err(D::Error::custom)
    }
}

impl From<BuiltinRow> for Model {
    fn from(row: BuiltinRow) -> Model {
        let rate = |listed: Option<BuiltinRate>| listed.map(|BuiltinRate(rate)| rate);
        let price = match (row.input, row.output) {
            (Some(BuiltinRate(input)), Some(BuiltinRate(output))) => Some(Price::new(
                Rates {
                    input,
                    cached_input: rate(row.cached_input),
                    cache_write: rate(row.cache_write),
                    cache_write_1h: rate(row.cache_write_1h),
                    output,
                },
                row.tiers
                    .into_iter()
                    .map(|tier| Tier {
                        above: tier.above,
                        rates: Rates {
                            input: tier.input.0,
                            cached_input: rate(tier.cached_input),
                            cache_write: rate(tier.cache_write),
                            cache_write_1h: None,
                            output: tier.output.0,
                        },
                    })
                    .collect(),
            )),
            _ => None,
        };
        Model {
            id: Cow::Borrowed(row.model),
            aliases: row.aliases.into_iter().map(Cow::Borrowed).collect(),
            provider: Cow::Borrowed(row.provider),
            vocabulary: row.vocabulary,
            exact: row.exact,
            template: row.template,
            window: row.window,
            max_output: row.max_output,
            price,
            billing: row.billing,
            status: row.status,
            ends: row.ends.map(Cow::Borrowed),
            as_of: Cow::Borrowed(row.as_of),
            source: Cow::Borrowed(row.source),
            note: row.note.map(Cow::Borrowed),
            origin: Origin::Builtin,
            host: None,
        }
    }
}

#[cfg(test)]
mod tests;
