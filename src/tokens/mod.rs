//! Counting tokens: exactly, offline, and without waiting for a vocabulary.
//!
//! A tokenizer of this kind cuts text into *pieces* (a word, a number, a run of blanks) with a
//! regular expression, and turns each piece into tokens by byte-pair merging. Everyone else builds
//! a hash map of 100,000 to 200,000 tokens first and counts three bytes afterwards. Here nothing is
//! built. The parts, in the order in which a byte meets them:
//!
//! - **What is compiled in** (`table`, made by the build script in `src/build`). Each vocabulary is
//!   a perfect hash table in read-only memory: a *pilot* for each small bucket of tokens, found at
//!   build time, sends each token to a slot of its own. A token of up to thirteen bytes stands
//!   in its slot, with its rank; a longer one has part of its hash there and the place of its bytes. The build
//!   script asks the reference tokenizers for every token, so no vocabulary file is downloaded or
//!   kept, and the system reads from disk only the pages that a text touches.
//! - **How a piece ends** (`split`, `window`). The expressions are few and fixed, so they are
//!   hand-written scanners. Nearly all text in Latin script does not need them: the pieces of 64 bytes
//!   are found at once, as masks of classes that the rules shift and combine.
//! - **How a piece is found** (`cache`, `table`). What a piece became a while ago is remembered, in
//!   memory close to the processor. Otherwise most pieces are whole tokens: one pilot, one slot, one
//!   comparison of the very bytes, and the count is one higher. The hash only says where to look, so
//!   it can cost time and never exactness.
//! - **How a piece that is no token is counted** (`merge`). Pairs are joined in the order of their
//!   ranks, by looking up the joined bytes in the same table. Only byte strings that stand in the
//!   piece are ever looked up, which is why no other part of a vocabulary matters to a count.
//! - **Why it cannot go quadratic**. The rule is quadratic in the length of a piece, and a piece
//!   can be the whole input. A sequence of tokens is the encoding of its text exactly if each
//!   neighbouring pair is what its own bytes encode to (proved in `merge`), so long pieces are
//!   merged in blocks of 128 bytes, and only the seams between blocks are looked at again. A test
//!   holds the growth of work in steps.
//! - **Why it needs no memory** (`count`, `run`). Text is counted as it streams by. A piece longer
//!   than any buffer is counted as it grows, and what no continuation can change is forgotten.
//! - **Why it cannot panic**. No `unsafe`, no `unwrap`, no regular expression engine with a
//!   backtracking limit; the few indexed arrays are on the stack with indices bounded by
//!   construction, and random text of every kind is held against the references.
//!
//! The references are `tiktoken-rs` for OpenAI's vocabularies; for Kimi's, Moonshot's ranks and
//! expression in the same engine, and the crate `tiktoken` beside it. One differing count on any
//! text is a bug. `OMK_DIFFERENTIAL=1000000 cargo test --release --lib
//! tokens` tries a million random texts for each vocabulary, and as many random cuts.
//!
//! tiktoken-rs does not merge at run time. Handing it only the tokens that occur in a text would
//! be exact, but building its encoder for the few hundred tokens of a page takes longer than this
//! module takes for the whole page, and it is quadratic on a long piece; `cargo bench --bench
//! estimate` prints both figures side by side.

mod cache;
mod class;
mod count;
mod hash;
mod merge;
mod run;
mod special;
mod split;
mod table;
pub mod usage;
mod window;

#[cfg(test)]
mod tests;

pub use count::Counter;
pub use special::Special;

use table::Table;

use crate::runtime::words::words;

use tiktoken_rs::tokenizer::Tokenizer;
use tiktoken_rs::tokenizer::get_tokenizer;

words! {
    /// A byte-pair vocabulary compiled into the library.
    Vocabulary, "vocabulary" {
        /// Kimi K2 and K3 (and every `moonshot-*` model): 163,584 tokens.
        Kimi = "kimi",
        /// OpenAI `o200k_base`: GPT-4o and everything after it.
        O200k = "o200k_base",
        /// OpenAI `cl100k_base`: GPT-4 and GPT-3.5 Turbo.
        Cl100k = "cl100k_base",
        /// OpenAI `p50k_base`: Codex and `text-davinci-003`.
        P50k = "p50k_base",
        /// OpenAI `r50k_base`: GPT-3, the same as GPT-2.
        R50k = "r50k_base",
    }
}

impl Vocabulary {
    /// The vocabulary that OpenAI's model of this name reads, by OpenAI's own rules; `None` for a name they do not cover.
    ///
    /// The one use of tiktoken-rs at run time: it keeps those rules current, and its tokenizers are not touched, so none of
    /// its data ends up in the program.
    pub fn of_openai_model(name: &str) -> Option<Vocabulary> {
        Some(match get_tokenizer(name)? {
            // The harmony variant differs in its special tokens alone, and so does the edit variant.
            Tokenizer::O200kBase | Tokenizer::O200kHarmony => Vocabulary::O200k,
            Tokenizer::Cl100kBase => Vocabulary::Cl100k,
            Tokenizer::P50kBase | Tokenizer::P50kEdit => Vocabulary::P50k,
            Tokenizer::R50kBase | Tokenizer::Gpt2 => Vocabulary::R50k,
        })
    }

    fn table(self) -> &'static Table {
        match self {
            Vocabulary::Kimi => &table::KIMI,
            Vocabulary::O200k => &table::O200K,
            Vocabulary::Cl100k => &table::CL100K,
            Vocabulary::P50k => &table::P50K,
            Vocabulary::R50k => &table::R50K,
        }
    }
}

/// The number of tokens of `text`, special tokens being ordinary text.
pub fn count(text: &str, vocabulary: Vocabulary) -> u64 {
    let mut counter = Counter::new(vocabulary);
    counter.push(text);
    counter.finish()
}

/// The ids of the tokens of `text`, those in `special` being one token each.
pub fn encode(text: &str, vocabulary: Vocabulary, special: &[Special]) -> Vec<u32> {
    count::encode(text, vocabulary, special)
}
