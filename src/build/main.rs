//! Compiles the vocabularies and the Unicode classes into the tables that the binary carries.
//!
//! A vocabulary becomes a perfect hash table: no hash map is built when omk starts, a page of a
//! table is read from disk only when a token on it is looked up. The sources are the reference
//! tokenizers themselves, asked for every token by its rank, so nothing is downloaded and no
//! vocabulary file stands in this repository.

#[path = "../tokens/hash.rs"]
mod hash;

mod classes;
mod crossings;
mod perfect;

use std::error::Error;
use std::path::Path;

/// A vocabulary as the reference hands it out: the token of each rank, in order. A rank without
/// a token (p50k leaves 50,256 to a special token) is an empty string.
struct Source {
    name: &'static str,
    tokens: Vec<Vec<u8>>,
}

/// Links the release program for size. At a fixed address it needs no relocations, which take room in the file and time at
/// start; it aborts on a panic, so nothing reads tables for unwinding; and functions that compile to the same code need one
/// copy. Only where the linker that comes with Rust is known to understand this.
#[allow(
    clippy::print_stdout,
    reason = "this is how a build script talks to cargo"
)]
fn slim_down() {
    let is = |name: &str, value: &str| std::env::var(name).as_deref() == Ok(value);
    if !(is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_ARCH", "x86_64"))
    {
        return;
    }
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for argument in [
        "-no-pie".to_string(),
        "-Wl,--no-eh-frame-hdr".to_string(),
        "-Wl,--icf=all".to_string(),
        format!("-Wl,-T,{root}/src/build/unwind.ld"),
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}

#[allow(
    clippy::print_stdout,
    reason = "this is how a build script talks to cargo"
)]
fn main() -> Result<(), Box<dyn Error>> {
    slim_down();
    for input in ["src/build", "src/tokens/hash.rs"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?;
    let out = Path::new(&out);

    classes::write(out)?;
    let r50k = openai("r50k", &tiktoken_rs::r50k_base()?, 50_256);
    let p50k = openai("p50k", &tiktoken_rs::p50k_base()?, 50_281);
    if p50k.tokens.get(..r50k.tokens.len()) != Some(&r50k.tokens) {
        return Err("r50k is no longer the head of p50k: it needs a table of its own".into());
    }
    for source in [
        kimi()?,
        openai("o200k", &tiktoken_rs::o200k_base()?, 199_998),
        openai("cl100k", &tiktoken_rs::cl100k_base()?, 100_256),
        p50k,
    ] {
        crossings::check(source.name, &source.tokens)?;
        perfect::write(out, source.name, &source.tokens)?;
    }
    Ok(())
}

fn kimi() -> Result<Source, Box<dyn Error>> {
    let encoding = tiktoken::get_encoding("kimi_k2").ok_or("tiktoken lacks kimi_k2")?;
    let ranks = u32::try_from(encoding.vocab_size())?;
    let tokens = (0..ranks).map(|rank| encoding.decode(&[rank])).collect();
    Ok(Source {
        name: "kimi",
        tokens,
    })
}

fn openai(name: &'static str, encoding: &tiktoken_rs::CoreBPE, ranks: u32) -> Source {
    let special = encoding.special_tokens();
    let tokens = (0..ranks)
        .map(|rank| encoding.decode_bytes(&[rank]).unwrap_or_default())
        .map(|token| match std::str::from_utf8(&token) {
            Ok(text) if special.contains(text) => Vec::new(),
            _ => token,
        })
        .collect();
    Source { name, tokens }
}
