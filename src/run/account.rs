//! What a run has used and may cost: an account made of attempts.
//!
//! Each attempt holds the bound of its request, what its peer reported, what omk counted of what arrived, how it ended and
//! whether it can be billed. Everything else is a function of these, so no ending can make an amount forget something: only
//! knowledge makes the bound of an attempt smaller. Pure: no clock, no file, no peer.
//!
//! | amount | of one attempt |
//! |---|---|
//! | known | the price of what the peer reported |
//! | at least | known, and the output that arrived and was not reported |
//! | at most | known, and the bound of every call that may be billed and did not report all of its usage |

use crate::catalog::Price;
use crate::catalog::money::Charge;
use crate::catalog::money::Usd;
use crate::cost::attempt::Attempt;
use crate::tokens;
use crate::tokens::Vocabulary;
use crate::tokens::usage::TokenCounts;
use crate::tokens::usage::Usage;

/// The most tokens that one call of the model can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallBound {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer, reasoning included.
    pub output: u64,
}

impl CallBound {
    /// What that costs, every prompt token at the highest rate that a provider may bill it by.
    pub(crate) fn price(&self, price: &Price) -> Usd {
        price.most(self.input, self.output)
    }

    fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// How many calls an attempt makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One: a request to a service.
    Call,
    /// As many as the agent decides.
    Turn,
}

/// An attempt, and what its amounts follow from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    shape: Shape,
    /// Of its call, or of the next call of the turn; `None` where nothing bounds it.
    bound: Option<CallBound>,
    /// Of calls of the turn that did not report all of their usage, the largest one at a time.
    largest: Option<CallBound>,
    /// Calls that the agent made again by itself.
    repeated: u32,
    end: Option<String>,
    charged: Charge,
    usage: Option<Usage>,
    received: Received,
}

/// Text that arrived, counted as it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Received {
    /// Counted pieces of earlier text.
    tokens: u64,
    /// Text that is not counted yet.
    text: String,
}

/// Text is counted in pieces of about so many bytes. A piece that ends within a word counts a token or two more than the
/// whole would, which is within what a lower bound may be off only if it is taken back: see [`Received::least`].
const PIECE_BYTES: usize = 16 * 1024;

impl Received {
    fn push(&mut self, text: &str, vocabulary: Vocabulary) {
        self.text.push_str(text);
        if self.text.len() >= PIECE_BYTES {
            self.tokens = self.least(vocabulary);
            self.text.clear();
        }
    }

    /// Tokens of all of it, at least.
    fn least(&self, vocabulary: Vocabulary) -> u64 {
        // Where text was cut, the last token may be part of a longer one.
        let tokens = tokens::count(&self.text, vocabulary).saturating_sub(1);
        self.tokens.saturating_add(tokens)
    }
}

impl Entry {
    /// Calls that may be billed and did not report all of their usage.
    fn unreported(&self) -> u32 {
        if self.charged == Charge::No {
            return 0;
        }
        let of_usage = self.usage.map_or(1, |usage| usage.unreported);
        match (self.shape, self.end.is_some()) {
            (Shape::Call, _) => of_usage.min(1),
            // The call under way, or the one that the agent makes next.
            (Shape::Turn, false) => {
                let silent = self.usage.map_or(0, |usage| usage.unreported);
                silent.max(self.repeated).saturating_add(1)
            }
            // A turn that broke off may have had a call under way.
            (Shape::Turn, true) if self.charged == Charge::Unknown => {
                of_usage.max(self.repeated).max(1)
            }
            (Shape::Turn, true) => of_usage.max(self.repeated),
        }
    }

    fn counts(&self) -> TokenCounts {
        let usage = self.usage;
        let figure = |of: fn(&Usage) -> Option<u64>| usage.as_ref().and_then(of).unwrap_or(0);
        TokenCounts {
            input_uncached: figure(|usage| usage.input),
            cache_read: figure(|usage| usage.cache_read),
            cache_write: figure(|usage| usage.cache_write),
            output: figure(|usage| usage.output),
        }
    }

    fn known(&self, price: &Price) -> Usd {
        match self.charged {
            Charge::No => Usd::ZERO,
            _ => price.cost(&self.counts()).total(),
        }
    }

    fn at_least(&self, price: &Price, vocabulary: Vocabulary) -> Usd {
        if self.charged == Charge::No || self.unreported() == 0 {
            return self.known(price);
        }
        let mut counts = self.counts();
        counts.output = counts.output.max(self.received.least(vocabulary));
        let least = price.cost(&counts).total();
        self.at_most(price).map_or(least, |most| least.min(most))
    }

    fn at_most(&self, price: &Price) -> Option<Usd> {
        let known = self.known(price);
        match (self.unreported(), self.shape) {
            (0, _) => Some(known),
            (_, Shape::Call) => Some(self.bound?.price(price).max(known)),
            (calls, Shape::Turn) => {
                let next = self.bound?.price(price);
                let largest = self.largest.map_or(next, |bound| bound.price(price));
                let others = (1..calls).fold(Usd::ZERO, |sum, _| sum + largest.max(next));
                Some(known + next + others)
            }
        }
    }

    fn at_most_tokens(&self) -> Option<u64> {
        if self.charged == Charge::No {
            return Some(0);
        }
        let known = self.usage.map_or(0, |usage| usage.total());
        match (self.unreported(), self.shape) {
            (0, _) => Some(known),
            (_, Shape::Call) => Some(self.bound?.tokens().max(known)),
            (calls, Shape::Turn) => {
                let largest = self.largest.or(self.bound)?.tokens();
                let call = self.bound?.tokens().max(largest);
                Some(known.saturating_add(call.saturating_mul(u64::from(calls))))
            }
        }
    }
}

/// The account of one run.
///
/// ```
/// use omk::catalog::Catalog;
/// use omk::catalog::money::{Charge, Usd};
/// use omk::run::account::{Account, CallBound};
/// use omk::tokens::usage::{TokenCounts, Usage, UsageSource};
///
/// let catalog = Catalog::builtin();
/// let model = catalog.find("kimi-k3").ok_or("no such model")?;
/// let mut account = Account::new(model.vocabulary, model.price.clone());
/// account.begin_call(Some(CallBound { input: 1_000, output: 500 }));
/// // The connection drops: what is billed is unknown, but not more than the request allowed.
/// account.end("network", Charge::Unknown);
/// assert_eq!(account.known(), Some(Usd::ZERO));
/// assert_eq!(account.at_most(), Some(Usd::parse("0.0105")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Account {
    vocabulary: Vocabulary,
    price: Option<Price>,
    entries: Vec<Entry>,
}

impl Account {
    /// An account without attempts.
    pub fn new(vocabulary: Vocabulary, price: Option<Price>) -> Account {
        Account {
            vocabulary,
            price,
            entries: Vec::new(),
        }
    }

    /// Takes other rates, once it is known who answers. All amounts follow.
    pub fn reprice(&mut self, vocabulary: Vocabulary, price: Option<Price>) {
        self.vocabulary = vocabulary;
        self.price = price;
    }

    /// A request to a service is about to be sent: from here on it may be billed.
    pub fn begin_call(&mut self, bound: Option<CallBound>) {
        self.begin(Shape::Call, bound);
    }

    /// A turn of an agent is about to begin; `first` bounds its first call.
    pub fn begin_turn(&mut self, first: Option<CallBound>) {
        self.begin(Shape::Turn, first);
    }

    fn begin(&mut self, shape: Shape, bound: Option<CallBound>) {
        self.entries.push(Entry {
            shape,
            bound,
            largest: None,
            repeated: 0,
            end: None,
            charged: Charge::Unknown,
            usage: None,
            received: Received::default(),
        });
    }

    /// The bound of the turn's next call.
    pub fn next_call(&mut self, bound: Option<CallBound>) {
        if let Some(entry) = self.entries.last_mut() {
            let largest = [entry.largest, entry.bound].into_iter().flatten();
            entry.largest = largest.max_by_key(CallBound::tokens);
            entry.bound = bound;
        }
    }

    /// More of the answer or of the reasoning arrived.
    pub fn receive(&mut self, text: &str) {
        let vocabulary = self.vocabulary;
        if let Some(entry) = self.running() {
            entry.received.push(text, vocabulary);
        }
    }

    /// The peer reported the usage of the attempt so far.
    pub fn report(&mut self, usage: Usage) {
        if let Some(entry) = self.entries.last_mut() {
            entry.usage = Some(usage);
            if entry.charged == Charge::No {
                entry.charged = Charge::Yes;
            }
        }
    }

    /// The agent makes a call again by itself, after one that may be billed.
    pub fn repeat_call(&mut self) {
        if let Some(entry) = self.running() {
            entry.repeated = entry.repeated.saturating_add(1);
        }
    }

    /// The attempt is over. `how` is `answered` or the kind of an error; `charged` says whether it may be billed, which a
    /// reported usage overrules.
    pub fn end(&mut self, how: &str, charged: Charge) {
        if let Some(entry) = self.running() {
            entry.end = Some(how.to_string());
            entry.charged = match entry.usage {
                Some(_) if charged == Charge::No => Charge::Yes,
                _ => charged,
            };
        }
    }

    fn running(&mut self) -> Option<&mut Entry> {
        self.entries.last_mut().filter(|entry| entry.end.is_none())
    }

    /// Whether anything may be billed.
    pub fn charged(&self) -> Charge {
        let charges = self.entries.iter().map(|entry| entry.charged);
        charges.fold(Charge::No, Charge::plus)
    }

    /// What peers reported, all attempts together; `None` when none did and none may be billed.
    pub fn usage(&self) -> Option<Usage> {
        let unknown = || Usage::unknown(tokens::usage::UsageSource::Provider);
        let billed = self.entries.iter().filter(|e| e.charged != Charge::No);
        billed
            .filter(|entry| entry.usage.is_some() || entry.end.is_some())
            .map(|entry| entry.usage.unwrap_or_else(unknown))
            .reduce(|sum, usage| sum.plus(&usage))
    }

    /// What the reported part costs; `None` without a known price.
    pub fn known(&self) -> Option<Usd> {
        let price = self.price.as_ref();
        self.sum(|entry| Some(entry.known(price?)))
    }

    /// What it cost at least; `None` without a known price.
    pub fn at_least(&self) -> Option<Usd> {
        let price = self.price.as_ref();
        self.sum(|entry| Some(entry.at_least(price?, self.vocabulary)))
    }

    /// What it can have cost at most; `None` where an attempt has no bound.
    pub fn at_most(&self) -> Option<Usd> {
        let price = self.price.as_ref();
        self.sum(|entry| match (entry.charged, price) {
            (Charge::No, _) => Some(Usd::ZERO),
            (_, price) => entry.at_most(price?),
        })
    }

    /// The most tokens that it can have used; `None` where an attempt has no bound.
    pub fn at_most_tokens(&self) -> Option<u64> {
        let mut entries = self.entries.iter();
        entries.try_fold(0, |sum: u64, entry| {
            Some(sum.saturating_add(entry.at_most_tokens()?))
        })
    }

    /// What is reported as the amount of the run: the known part, where anything is known or nothing can be billed.
    pub fn amount(&self) -> Option<Usd> {
        let reported = |usage: Usage| usage.counts().is_some();
        let tells = self
            .entries
            .iter()
            .any(|entry| entry.usage.is_some_and(reported));
        match self.charged() {
            Charge::No => Some(Usd::ZERO),
            _ if tells => self.known(),
            _ => None,
        }
    }

    /// The attempts as the ledger keeps them.
    pub fn attempts(&self) -> Vec<Attempt> {
        let price = self.price.as_ref();
        let attempts = self.entries.iter().map(|entry| Attempt {
            end: entry.end.clone(),
            charged: entry.charged,
            usage: entry.usage,
            received_tokens: entry.received.least(self.vocabulary),
            known_usd: price.map(|price| entry.known(price)),
            at_least_usd: price.map(|price| entry.at_least(price, self.vocabulary)),
            at_most_usd: match entry.charged {
                Charge::No => Some(Usd::ZERO),
                _ => price.and_then(|price| entry.at_most(price)),
            },
        });
        attempts.collect()
    }

    fn sum(&self, of: impl Fn(&Entry) -> Option<Usd>) -> Option<Usd> {
        self.entries
            .iter()
            .try_fold(Usd::ZERO, |sum, entry| Some(sum + of(entry)?))
    }
}

#[cfg(test)]
mod tests;
