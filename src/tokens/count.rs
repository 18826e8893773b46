//! From text to a number, or to ids: split, look up, merge what is not a token.

use crate::tokens::Vocabulary;
use crate::tokens::cache;
use crate::tokens::cache::Cache;
use crate::tokens::cache::Value;
use crate::tokens::hash;
use crate::tokens::hash::Key;
use crate::tokens::merge::Merger;
use crate::tokens::run::Limits;
use crate::tokens::run::LongRun;
use crate::tokens::special::Special;
use crate::tokens::split::Cased;
use crate::tokens::split::Cl100k;
use crate::tokens::split::P50k;
use crate::tokens::split::Pattern;
use crate::tokens::table::NONE;
use crate::tokens::table::Table;
use crate::tokens::window::WINDOW;

/// How many bytes pass before the cache of pieces is worth its first page.
const CACHE_FROM: u64 = 16 * 1024;

/// How many bytes a key is read from, however short the piece.
const READ: usize = 16;

const LIMITS: Limits = Limits {
    run_at: 128 * 1024,
    settle_at: 4 * 1024 * 1024,
};

/// What is made of the tokens, beyond counting them.
trait Output: Default {
    /// Whether it wants ids.
    const IDS: bool;

    /// Takes the id of one token.
    fn one(&mut self, id: u32);

    /// Takes the ids of several.
    fn several(&mut self, ids: &[u32]);

    /// Merges a piece that is no token, and takes what it becomes: how many, and which if ids are wanted.
    fn merged(&mut self, merger: &mut Merger, piece: &[u8]) -> (usize, &[u32]);
}

/// Nothing: their number is all.
#[derive(Debug, Default)]
struct Nothing;

impl Output for Nothing {
    const IDS: bool = false;

    #[inline(always)]
    fn one(&mut self, _: u32) {}

    #[inline(always)]
    fn several(&mut self, _: &[u32]) {}

    fn merged(&mut self, merger: &mut Merger, piece: &[u8]) -> (usize, &[u32]) {
        (merger.count(piece), &[])
    }
}

/// Their ids.
impl Output for Vec<u32> {
    const IDS: bool = true;

    #[inline(always)]
    fn one(&mut self, id: u32) {
        self.push(id);
    }

    #[inline(always)]
    fn several(&mut self, ids: &[u32]) {
        self.extend_from_slice(ids);
    }

    fn merged(&mut self, merger: &mut Merger, piece: &[u8]) -> (usize, &[u32]) {
        let before = self.len();
        merger.ranks(piece, self);
        let ids = self.get(before..).unwrap_or(&[]);
        (ids.len(), ids)
    }
}

/// Takes one piece after another.
#[derive(Debug)]
struct Pieces<O> {
    merger: Merger,
    cache: Cache,
    bytes: u64,
    tokens: u64,
    output: O,
}

impl<O: Output> Pieces<O> {
    fn new(table: &'static Table) -> Pieces<O> {
        Pieces {
            merger: Merger::new(table),
            cache: Cache::new(O::IDS),
            bytes: 0,
            tokens: 0,
            output: O::default(),
        }
    }

    /// Takes the pieces of `text` that are decided, and says where the first other one starts.
    fn take<P: Pattern>(&mut self, text: &[u8], last: bool) -> usize {
        if self.bytes + text.len() as u64 >= CACHE_FROM {
            self.cache.grow();
        }
        let mut at = 0;
        let mut tokens = 0;
        while at < text.len() {
            // A window is for text that starts with more than a word of ASCII.
            let rest = text.get(at..).unwrap_or(&[]);
            if let Some(window) = rest.first_chunk::<{ WINDOW + READ }>()
                && let Some((window, _)) = window.split_first_chunk::<WINDOW>()
                && window
                    .first_chunk::<4>()
                    .is_some_and(|head| head.is_ascii())
            {
                let starts = P::starts(window);
                let mut bits = starts.bits;
                let mut from = 0;
                while bits != 0 {
                    let end = bits.trailing_zeros() as usize;
                    if let Some(head) = rest.get(from..).and_then(|rest| rest.first_chunk()) {
                        tokens += self.piece(head, rest, from, end).count();
                    }
                    from = end;
                    bits &= bits - 1;
                }
                at += from;
                if !starts.is_hard {
                    continue;
                }
            }
            let Some(end) = P::end(text, at, last) else {
                break;
            };
            tokens += self.lone_piece(text, at, end).count();
            at = end;
        }
        self.bytes += at as u64;
        self.tokens += tokens;
        at
    }

    /// A piece that may be the last of all.
    #[inline]
    fn lone_piece(&mut self, text: &[u8], from: usize, end: usize) -> Value {
        match text.get(from..).and_then(|rest| rest.first_chunk()) {
            Some(head) => self.piece(head, text, from, end),
            None => {
                let mut head = [0; READ];
                for (to, byte) in head.iter_mut().zip(text.get(from..).unwrap_or(&[])) {
                    *to = *byte;
                }
                self.piece(&head, text, from, end)
            }
        }
    }

    /// The piece `text[from..end]`, which `head` starts with.
    #[inline(always)]
    fn piece(&mut self, head: &[u8; READ], text: &[u8], from: usize, end: usize) -> Value {
        let len = end - from;
        if len > hash::SHORT {
            return self.long(text.get(from..end).unwrap_or(&[]));
        }
        let key = Key::new(head, len);
        let hash = key.hash();
        let Some(value) = self.cache.get(key, hash) else {
            return self.short(key, hash, text.get(from..end).unwrap_or(&[]));
        };
        if O::IDS {
            match value.id() {
                Some(id) => self.output.one(id),
                None => self.output.several(self.cache.ids(hash, value)),
            }
        }
        value
    }

    /// A short piece that is not remembered.
    #[inline(never)]
    fn short(&mut self, key: Key, hash: u64, piece: &[u8]) -> Value {
        let rank = self.merger.table.rank_of_key(key, hash);
        if rank != NONE {
            self.output.one(rank);
            self.cache.set(key, hash, Value::one(rank), &[]);
            return Value::one(rank);
        }
        let (count, ids) = self.output.merged(&mut self.merger, piece);
        if ids.len() <= cache::IDS {
            self.cache.set(key, hash, Value::several(count), ids);
        }
        Value::several(count)
    }

    #[inline(never)]
    fn long(&mut self, piece: &[u8]) -> Value {
        if let Some((value, ids)) = self.cache.get_long(piece) {
            match value.id() {
                Some(id) => self.output.one(id),
                None => self.output.several(ids),
            }
            return value;
        }
        if let Some(rank) = self.merger.table.rank_of_long(piece) {
            self.output.one(rank);
            self.cache.set_long(piece, Value::one(rank), &[]);
            return Value::one(rank);
        }
        let (count, ids) = self.output.merged(&mut self.merger, piece);
        if ids.len() <= cache::IDS {
            self.cache.set_long(piece, Value::several(count), ids);
        }
        Value::several(count)
    }

    /// Takes as many as the vocabulary's own expression decides.
    fn take_of(&mut self, vocabulary: Vocabulary, text: &[u8], last: bool) -> usize {
        match vocabulary {
            Vocabulary::Kimi => self.take::<Cased<true>>(text, last),
            Vocabulary::O200k => self.take::<Cased<false>>(text, last),
            Vocabulary::Cl100k => self.take::<Cl100k>(text, last),
            Vocabulary::P50k | Vocabulary::R50k => self.take::<P50k>(text, last),
        }
    }
}

/// Counts the tokens of a text that arrives in parts, cut anywhere between characters, in memory
/// that does not depend on its length.
///
/// ```
/// use omk::tokens::{Counter, Vocabulary};
///
/// let mut counter = Counter::new(Vocabulary::Kimi);
/// counter.push("Hello, wor");
/// counter.push("ld!");
/// assert_eq!(counter.finish(), omk::tokens::count("Hello, world!", Vocabulary::Kimi));
/// ```
#[derive(Debug)]
pub struct Counter {
    vocabulary: Vocabulary,
    limits: Limits,
    pieces: Pieces<Nothing>,
    /// What has been read and is not counted yet: the start of an undecided piece.
    pending: Vec<u8>,
    /// How much to gather before looking again, so that many small parts cost no more than one.
    look_at: usize,
    run: Option<LongRun>,
    special: &'static [Special],
    /// The start of what may become a special token.
    held: String,
}

impl Counter {
    /// A counter to which special tokens are ordinary text, as they are to a service that
    /// receives them in a message.
    pub fn new(vocabulary: Vocabulary) -> Counter {
        Counter::with_limits(vocabulary, LIMITS)
    }

    pub(crate) fn with_limits(vocabulary: Vocabulary, limits: Limits) -> Counter {
        Counter {
            vocabulary,
            limits,
            pieces: Pieces::new(vocabulary.table()),
            pending: Vec::new(),
            look_at: 0,
            run: None,
            special: &[],
            held: String::new(),
        }
    }

    /// The same counter, to which each of these is one token.
    pub fn recognising(mut self, special: &'static [Special]) -> Counter {
        self.special = special;
        self
    }

    /// Counts more text.
    pub fn push(&mut self, text: &str) {
        if self.special.is_empty() {
            self.ordinary(text.as_bytes(), false);
        } else {
            self.with_special(text, false);
        }
    }

    /// The number of tokens of all the text.
    pub fn finish(mut self) -> u64 {
        if self.special.is_empty() {
            self.ordinary(&[], true);
        } else {
            self.with_special("", true);
        }
        self.pieces.tokens
    }

    /// How much text is held in memory.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.pending.len() + self.run.as_ref().map_or(0, LongRun::held_bytes)
    }

    fn with_special(&mut self, text: &str, last: bool) {
        let text = std::mem::take(&mut self.held) + text;
        let mut rest = text.as_str();
        while let Some((at, token)) = Special::find(self.special, rest, last) {
            let (ordinary, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            self.ordinary(ordinary.as_bytes(), token.is_some());
            let Some(token) = token else {
                self.held = from.to_string();
                return;
            };
            self.pieces.tokens += 1;
            rest = from.get(token.text.len()..).unwrap_or("");
        }
        self.ordinary(rest.as_bytes(), last);
    }

    fn ordinary(&mut self, text: &[u8], last: bool) {
        if self.pending.is_empty() && self.run.is_none() {
            // The common case: nothing is copied but the piece that the end cuts off.
            let taken = self.pieces.take_of(self.vocabulary, text, last);
            self.pending
                .extend_from_slice(text.get(taken..).unwrap_or(&[]));
            self.look_at = 2 * self.pending.len() + 4096;
            if self.pending.len() < self.limits.run_at {
                return;
            }
        } else {
            self.pending.extend_from_slice(text);
            if self.pending.len() < self.look_at && !last {
                return;
            }
        }
        let mut pending = std::mem::take(&mut self.pending);
        let mut done = 0;
        while let Some(rest) = pending.get(done..).filter(|rest| !rest.is_empty()) {
            if let Some(mut run) = self.run.take() {
                let (taken, ended) = run.feed(&mut self.pieces.merger, rest, last);
                self.pieces.bytes += taken as u64;
                done += taken;
                if !ended {
                    self.run = Some(run);
                    break;
                }
                self.pieces.tokens += run.count(&mut self.pieces.merger);
                continue;
            }
            done += self.pieces.take_of(self.vocabulary, rest, last);
            let rest = pending.get(done..).unwrap_or(&[]);
            if rest.len() < self.limits.run_at {
                break;
            }
            let kind = match self.vocabulary {
                Vocabulary::Kimi => Cased::<true>::run(rest),
                Vocabulary::O200k => Cased::<false>::run(rest),
                Vocabulary::Cl100k => Cl100k::run(rest),
                Vocabulary::P50k | Vocabulary::R50k => P50k::run(rest),
            };
            self.run = Some(LongRun::new(kind, self.limits));
        }
        if last && let Some(mut run) = self.run.take() {
            self.pieces.tokens += run.count(&mut self.pieces.merger);
        }
        pending.drain(..done);
        self.look_at = if self.run.is_some() {
            0
        } else {
            2 * pending.len() + 4096
        };
        self.pending = pending;
    }
}

/// The ids of the tokens of a whole text; those in `special` are recognised as one token each.
pub(crate) fn encode(text: &str, vocabulary: Vocabulary, special: &[Special]) -> Vec<u32> {
    let mut pieces = Pieces::<Vec<u32>>::new(vocabulary.table());
    let mut rest = text;
    while let Some((at, Some(token))) = Special::find(special, rest, true) {
        let (ordinary, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        pieces.take_of(vocabulary, ordinary.as_bytes(), true);
        pieces.output.one(token.id);
        rest = from.get(token.text.len()..).unwrap_or("");
    }
    pieces.take_of(vocabulary, rest.as_bytes(), true);
    pieces.output
}
