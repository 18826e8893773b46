//! What `omk estimate` takes: its place in the table of commands, its flags, and what they come to.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use crate::catalog::Price;
use crate::catalog::money::Usd;
use crate::cli::commands::estimate::DEFAULT_MODEL;
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::flags::value::{self, Cached, CutFrom, Grouping, Session};
use crate::cli::flags::{
    CommandSpec, Completes, Flag, FlagGroup, Invocation, LowArgs, Takes, UsageError, shared,
};
use crate::cli::input::Source;
use crate::cost::budget::TagFilter;
use crate::cost::estimator::PricingTier;
use crate::tokens::Vocabulary;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "estimate",
    positionals: "[FILE|DIR]...",
    completes: Completes::Files,
    at_most: usize::MAX,
    summary: "count tokens and price them, offline",
    doc: "Counts the tokens of each FILE and shows what sending them would cost. Without a FILE, or for `-`, it reads \
standard input. No network is used, except with {--exact}.\n\n\
A directory stands for its files. Those that .gitignore excludes are left out, and so are .git and node_modules. Files \
that are not UTF-8 text are skipped and counted. The largest are listed first; {--by} groups them.\n\n\
Input must be UTF-8 without NUL; otherwise the error gives the offset ({--lossy} replaces such bytes). Input of any \
size is read in pieces, and on a terminal a progress bar appears after a second. A file that cannot be read is \
reported, and the others are still counted.\n\n\
With {--session} no text is read: the cost of a working session is estimated from its length and size.",
    examples: &[
        ("omk estimate prompt.txt", "Tokens and price of one file."),
        (
            "git diff | omk estimate --max-usd 0.05",
            "A gate for CI: exit code 5 when sending the diff would cost more than five cents.",
        ),
        (
            "omk estimate src/*.rs --model kimi-k3,gpt-5.2 --output-tokens 800 --json",
            "Two models compared, as JSON.",
        ),
        (
            "omk estimate --by dir --top 10 .",
            "Where the tokens of a repository are.",
        ),
        (
            "omk estimate --truncate 8k --truncate-from middle < build.log",
            "A long text cut to 8000 tokens, both ends kept.",
        ),
        (
            "omk estimate --count < prompt.txt",
            "The number of tokens and nothing else.",
        ),
        (
            "omk estimate --session team --duration 30m --workers 4",
            "What half an hour of four workers may cost.",
        ),
    ],
    flags: &[
        FlagGroup {
            title: "Counting",
            flags: &[
                &MODEL,
                &VOCABULARY,
                &SPECIAL,
                &EXACT,
                &BASE_URL,
                &INSECURE,
                &shared::DIRECTORY,
                &shared::LOSSY,
                &shared::NO_STDIN,
            ],
        },
        FlagGroup {
            title: "Price",
            flags: &[
                &OUTPUT_TOKENS,
                &CACHED,
                &shared::PRICE,
                &shared::PRICE_FILE,
                &shared::STRICT_PRICES,
                &TAG,
            ],
        },
        FlagGroup {
            title: "Session",
            flags: &[&SESSION, &DURATION, &WORKERS, &ITERATIONS, &ROLE, &TIER],
        },
        FlagGroup {
            title: "Limits",
            flags: &[&MAX_USD, &MAX_TOKENS, &shared::READ_DEADLINE],
        },
        FlagGroup {
            title: "Output",
            flags: &[
                &COUNT,
                &IDS,
                &BY,
                &TOP,
                &TRUNCATE,
                &TRUNCATE_FROM,
                &shared::JSON,
                &shared::QUIET,
            ],
        },
    ],
    run: |invocation, env| super::run(EstimateArgs::resolve(invocation, env)?, env),
};

static MODEL: Flag = Flag {
    doc: "Model to count and price for. It decides the vocabulary, the context window and the rates; several are compared, \
cheapest first. The default is kimi-k3; `omk models` lists the others.",
    ..shared::MODEL
};

static MAX_USD: Flag = Flag {
    doc: "Fail when the price is above this. A decimal in US dollars; the exit code is 5. It applies to each of \
several models. Without a known price it cannot be checked, and the exit code is 78. No limit by default.",
    ..shared::MAX_USD
};

static MAX_TOKENS: Flag = Flag {
    doc: "Fail when the input has more tokens than this. A whole number, k and M allowed; the exit code is 5. No limit \
by default.",
    ..shared::MAX_TOKENS
};

static INSECURE: Flag = Flag {
    doc: "Send the key over plain HTTP to another machine. Only {--exact} sends one. Anyone on the way can read it, so this is refused otherwise.",
    ..shared::INSECURE
};

static BASE_URL: Flag = Flag {
    doc: "Address of the service to ask. {--exact} asks it; it ends before /tokenizers, as in https://host/v1. The default is \
https://api.moonshot.ai/v1.",
    ..shared::BASE_URL
};

static TAG: Flag = Flag {
    doc: "Look at the answers of runs with this label only. With KEY alone any value will do; of several labels a run must \
have all. They show how long answers were so far.",
    ..shared::TAG_FILTER
};

static OUTPUT_TOKENS: Flag = Flag {
    long: "output-tokens",
    short: Some('o'),
    takes: Takes::Value("N", |low, v| {
        low.output_tokens = Some(value::count(v)?);
        Ok(())
    }),
    doc: "Expected tokens of the answer. They are priced at the output rate and share the context window with the \
input. A whole number, k and M allowed; the default is 0, the price of the input alone.",
    configurable: true,
    ..Flag::BLANK
};

static CACHED: Flag = Flag {
    long: "cached",
    takes: Takes::Value("N|P%", |low, v| {
        low.cached = Some(value::cached(v)?);
        Ok(())
    }),
    doc: "Part of the input that the service has cached. A number of tokens, or a share such as 80%. The default is 0.",
    ..Flag::BLANK
};

static COUNT: Flag = Flag {
    long: "count",
    takes: Takes::Nothing(|low| low.count = true),
    doc: "Print only the number of tokens. The sum for several inputs.",
    ..Flag::BLANK
};

static IDS: Flag = Flag {
    long: "ids",
    takes: Takes::Nothing(|low| low.ids = true),
    doc: "Print the token ids of the input, one per line. For one input.",
    ..Flag::BLANK
};

static VOCABULARY: Flag = Flag {
    long: "vocabulary",
    takes: Takes::Value("NAME", |low, v| {
        low.vocabulary = Some(value::word(v)?);
        Ok(())
    }),
    doc: "Count with this vocabulary. The default is the model's own.",
    choices: &[
        "kimi",
        "o200k_base",
        "cl100k_base",
        "p50k_base",
        "r50k_base",
    ],
    completes: Completes::Choices,
    ..Flag::BLANK
};

static SPECIAL: Flag = Flag {
    long: "special",
    takes: Takes::Nothing(|low| low.special = true),
    doc: "Count special tokens in the input as such. By default a text such as <|endoftext|> is ordinary text, as \
services treat it.",
    ..Flag::BLANK
};

static EXACT: Flag = Flag {
    long: "exact",
    takes: Takes::Nothing(|low| low.exact = true),
    doc: "Ask the service for its own count and compare. This sends the text to {--base-url} and needs a key in \
MOONSHOT_API_KEY or KIMI_API_KEY. Counting is free of charge.",
    ..Flag::BLANK
};

static SESSION: Flag = Flag {
    long: "session",
    takes: Takes::Value("KIND", |low, v| {
        low.session = Some(value::word(v)?);
        Ok(())
    }),
    doc: "Estimate a working session instead of a text. A heuristic from {--duration}, {--workers}, {--iterations}, \
{--role} and {--tier}.",
    choices: &["team", "autopilot", "ralph"],
    completes: Completes::Choices,
    ..Flag::BLANK
};

static DURATION: Flag = Flag {
    long: "duration",
    takes: Takes::Value("DURATION", |low, v| {
        low.duration = Some(value::duration(v)?);
        Ok(())
    }),
    doc: "Length of the session. Such as 30m or 1h30m, up to 1000h; required with {--session}.",
    ..Flag::BLANK
};

static WORKERS: Flag = Flag {
    long: "workers",
    takes: Takes::Value("N", |low, v| {
        low.workers = Some(value::positive_count(v)?);
        Ok(())
    }),
    doc: "Workers at the same time in the session. At least 1, the default.",
    ..Flag::BLANK
};

static ITERATIONS: Flag = Flag {
    long: "iterations",
    takes: Takes::Value("N", |low, v| {
        low.iterations = Some(value::count(v)?);
        Ok(())
    }),
    doc: "Rounds of rework in the session. Each adds 30% to the tokens; the default is 1 for a team, else 0.",
    ..Flag::BLANK
};

static ROLE: Flag = Flag {
    long: "role",
    takes: Takes::Value("NAME", |low, v| {
        low.role = Some(value::name(v)?);
        Ok(())
    }),
    doc: "Role of the workers, such as architect. It selects the price class unless {--tier} does.",
    ..Flag::BLANK
};

static TIER: Flag = Flag {
    long: "tier",
    takes: Takes::Value("CLASS", |low, v| {
        low.tier = Some(value::word(v)?);
        Ok(())
    }),
    doc: "Price class of the session's model. 2, 8 or 24 US dollars per 1M output tokens, and a quarter of that for \
input.",
    choices: &["budget", "standard", "premium"],
    completes: Completes::Choices,
    configurable: true,
    ..Flag::BLANK
};

static BY: Flag = Flag {
    long: "by",
    takes: Takes::Value("WHAT", |low, v| {
        low.estimate.by = Some(value::word(v)?);
        Ok(())
    }),
    doc: "Group files by extension or by top-level directory. By default each file has a line.",
    choices: &["ext", "dir"],
    completes: Completes::Choices,
    ..Flag::BLANK
};

static TOP: Flag = Flag {
    long: "top",
    takes: Takes::Value("N", |low, v| {
        low.estimate.top = Some(value::positive_count(v)?);
        Ok(())
    }),
    doc: "List only the N largest inputs. The rest is summed up in one line. The default is 20 for a directory, else \
all; JSON has all unless N is given.",
    ..Flag::BLANK
};

static TRUNCATE: Flag = Flag {
    long: "truncate",
    takes: Takes::Value("N", |low, v| {
        low.estimate.truncate = Some(value::positive_count(v)?);
        Ok(())
    }),
    doc: "Print the input cut to N tokens, and nothing else. A whole number, k and M allowed. A character is never \
split, so the result may have fewer tokens. For one input.",
    ..Flag::BLANK
};

static TRUNCATE_FROM: Flag = Flag {
    long: "truncate-from",
    takes: Takes::Value("PART", |low, v| {
        low.estimate.truncate_from = Some(value::word(v)?);
        Ok(())
    }),
    doc: "Where to cut. For {--truncate}; the default is end. With middle both ends stay, and a line between them says \
what was cut.",
    choices: &["end", "start", "middle"],
    completes: Completes::Choices,
    ..Flag::BLANK
};

/// Flags that describe a text, its price or how it is counted.
const OF_A_TEXT: &[&str] = &[
    "model",
    "output-tokens",
    "cached",
    "price",
    "price-file",
    "strict-prices",
    "count",
    "ids",
    "vocabulary",
    "special",
    "exact",
    "base-url",
    "insecure",
    "lossy",
    "no-stdin",
    "tag",
    "by",
    "top",
    "truncate",
    "truncate-from",
];

/// Flags that describe a session.
const OF_A_SESSION: &[&str] = &["duration", "workers", "iterations", "role", "tier"];

/// What `omk estimate` was asked.
#[derive(Debug)]
pub(crate) enum EstimateArgs {
    /// To count a text.
    Text(Box<TextArgs>),
    /// To guess a session.
    Session(SessionArgs),
}

/// A text to count and price.
#[derive(Debug)]
pub(crate) struct TextArgs {
    /// What to read, in order; at least one, standard input at most once.
    pub(crate) inputs: Vec<Source>,
    /// What to price for, in the order given, each once; at least one.
    pub(crate) models: Vec<String>,
    /// Count with this one instead of the model's own.
    pub(crate) vocabulary: Option<Vocabulary>,
    /// Count special tokens as such.
    pub(crate) special: bool,
    /// Replace bad bytes.
    pub(crate) lossy: bool,
    /// Tokens of the answer.
    pub(crate) output_tokens: u64,
    /// The cached part of the input.
    pub(crate) cached: Cached,
    /// Rates for the one model.
    pub(crate) price: Option<Price>,
    /// Files of rates, the last one first in force.
    pub(crate) price_files: Vec<PathBuf>,
    /// An unknown price is an error.
    pub(crate) strict_prices: bool,
    /// The gate on the price.
    pub(crate) max_usd: Option<Usd>,
    /// The gate on the input.
    pub(crate) max_tokens: Option<u64>,
    /// Labels of the runs whose answers tell how long this one may be.
    pub(crate) tags: Vec<TagFilter>,
    /// Ask the service too.
    pub(crate) exact: bool,
    /// Where; `None` is the default service.
    pub(crate) base_url: Option<String>,
    /// Whether the key may be sent unencrypted.
    pub(crate) insecure: bool,
    /// List only so many inputs.
    pub(crate) top: Option<usize>,
    /// Add inputs up.
    pub(crate) by: Option<Grouping>,
    /// Which part is cut off, where the text is to be cut.
    pub(crate) cut_from: CutFrom,
    /// What to print.
    pub(crate) show: Show,
    /// One JSON document.
    pub(crate) json: bool,
    /// The end of the run.
    pub(crate) deadline: Deadline,
}

/// What an estimate of a text prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Tokens, share of the window and price.
    Estimate,
    /// The number of tokens alone.
    Count,
    /// The token ids of the one input.
    Ids,
    /// The one input, cut to so many tokens.
    Text(u64),
}

/// A session to guess.
#[derive(Debug)]
pub(crate) struct SessionArgs {
    /// Which kind.
    pub(crate) session: Session,
    /// Its length.
    pub(crate) duration: Duration,
    /// Workers at the same time, at least one.
    pub(crate) workers: u64,
    /// Rounds of rework; `None` leaves it to the kind of session.
    pub(crate) iterations: Option<u64>,
    /// The role of the workers.
    pub(crate) role: Option<String>,
    /// The price class; `None` leaves it to the role.
    pub(crate) tier: Option<PricingTier>,
    /// The gate on the price.
    pub(crate) max_usd: Option<Usd>,
    /// The gate on the tokens.
    pub(crate) max_tokens: Option<u64>,
    /// One JSON document.
    pub(crate) json: bool,
}

impl EstimateArgs {
    /// Settles defaults and conflicts. Only what was typed can be in conflict: a setting of the
    /// config file that has no meaning for this run is no mistake.
    ///
    /// # Errors
    ///
    /// Arguments that exclude each other or need each other.
    pub(crate) fn resolve(invocation: Invocation, env: &Env) -> Result<EstimateArgs, UsageError> {
        let typed = invocation.given;
        let first_of = |flags: &[&str]| typed.iter().find(|flag| flags.contains(flag));
        let LowArgs {
            positionals,
            is_literal: _,
            schema_of: _,
            mut model,
            output_tokens,
            cached,
            price,
            price_file,
            strict_prices,
            max_usd,
            max_tokens,
            exact,
            base_url,
            count,
            ids,
            special,
            vocabulary,
            // Where the command works.
            directory: _,
            lossy,
            no_stdin,
            session,
            duration,
            workers,
            iterations,
            role,
            tier,
            estimate,
            doctor: _,
            ask,
            batch: _,
            plan: _,
            cost,
            all: _,
            url: _,
            format: _,
            strict: _,
            deadline,
            json,
            // Obeyed by the output, for every command.
            quiet: _,
        } = invocation.low;

        if let Some(session) = session {
            let reason = "a session is estimated without a text";
            if let Some(flag) = first_of(OF_A_TEXT) {
                return Err(UsageError::conflict("--session", &format!("--{flag}")).hint(reason));
            }
            if !positionals.is_empty() {
                return Err(UsageError::conflict("--session", "FILE").hint(reason));
            }
            let Some(duration) = duration else {
                return Err(UsageError::new("--session needs its length")
                    .hint("--duration 30m, for instance"));
            };
            return Ok(EstimateArgs::Session(SessionArgs {
                session,
                duration,
                workers: workers.unwrap_or(1),
                iterations,
                role,
                tier,
                max_usd,
                max_tokens,
                json,
            }));
        }
        if let Some(flag) = first_of(OF_A_SESSION) {
            let message = format!("--{flag} needs --session");
            return Err(
                UsageError::new(message).hint("--session team, autopilot or ralph asks for one")
            );
        }
        if typed.contains(&"base-url") && !exact {
            return Err(UsageError::new(
                "--base-url is for --exact, which is not given",
            ));
        }

        if model.is_empty() {
            model.push(DEFAULT_MODEL.to_string());
        }
        let mut models: Vec<String> = Vec::with_capacity(model.len());
        for name in model {
            if !models.contains(&name) {
                models.push(name);
            }
        }
        let inputs = sources(positionals, no_stdin)?;
        let show = match (count, ids, estimate.truncate) {
            (false, false, None) => Show::Estimate,
            (true, false, None) => Show::Count,
            (false, true, None) => Show::Ids,
            (false, false, Some(tokens)) => Show::Text(tokens),
            (true, true, _) => return Err(UsageError::conflict("--count", "--ids")),
            (true, _, Some(_)) => return Err(UsageError::conflict("--count", "--truncate")),
            (_, true, Some(_)) => return Err(UsageError::conflict("--ids", "--truncate")),
        };
        if estimate.truncate_from.is_some() && estimate.truncate.is_none() {
            return Err(UsageError::new("--truncate-from needs --truncate N"));
        }
        let truncates = matches!(show, Show::Text(_));
        if truncates && json {
            return Err(UsageError::conflict("--truncate", "--json")
                .hint("--truncate prints the text alone"));
        }
        if truncates && inputs.len() > 1 {
            return Err(UsageError::conflict("--truncate", "more than one FILE"));
        }
        if show == Show::Count && json {
            return Err(UsageError::conflict("--count", "--json")
                .hint("the JSON document has the count in it"));
        }
        if show == Show::Ids && inputs.len() > 1 {
            return Err(UsageError::conflict("--ids", "more than one FILE"));
        }
        if show != Show::Estimate && models.len() > 1 && vocabulary.is_none() {
            let flag = match show {
                Show::Ids => "--ids",
                Show::Text(_) => "--truncate",
                _ => "--count",
            };
            return Err(UsageError::conflict(flag, "more than one model")
                .hint("--vocabulary says how to count"));
        }
        if price.is_some() && models.len() > 1 {
            return Err(UsageError::conflict("--price", "more than one model")
                .hint("a --price-file has rates for many"));
        }
        Ok(EstimateArgs::Text(Box::new(TextArgs {
            inputs,
            models,
            vocabulary,
            special,
            lossy,
            output_tokens: output_tokens.unwrap_or(0),
            cached: cached.unwrap_or(Cached::Tokens(0)),
            price,
            price_files: price_file,
            strict_prices,
            max_usd,
            max_tokens,
            tags: cost.tags,
            exact,
            base_url,
            insecure: ask.insecure,
            top: estimate
                .top
                .map(|top| usize::try_from(top).unwrap_or(usize::MAX)),
            by: estimate.by,
            cut_from: estimate.truncate_from.unwrap_or(CutFrom::End),
            show,
            json,
            deadline: Deadline::new(env.started, deadline),
        })))
    }
}

/// The inputs: each FILE in order, `-` for standard input, which is also what no FILE means.
fn sources(
    positionals: Vec<std::ffi::OsString>,
    no_stdin: bool,
) -> Result<Vec<Source>, UsageError> {
    let is_stdin = |word: &OsStr| word == "-";
    let from_stdin = positionals.iter().filter(|word| is_stdin(word)).count();
    match (from_stdin, no_stdin) {
        (_, true) if positionals.is_empty() => {
            return Err(UsageError::new("--no-stdin leaves nothing to read").hint("give a FILE"));
        }
        (1.., true) => return Err(UsageError::conflict("--no-stdin", "`-`")),
        (2.., false) => {
            return Err(UsageError::new(
                "`-` is given twice; standard input can be read once",
            ));
        }
        _ => {}
    }
    if positionals.is_empty() {
        return Ok(vec![Source::Stdin]);
    }
    let source = |word: std::ffi::OsString| {
        if is_stdin(&word) {
            Source::Stdin
        } else {
            Source::File(word.into())
        }
    };
    Ok(positionals.into_iter().map(source).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::parse;
    use crate::cli::env::tests::world;
    use crate::cli::flags::parse::Parsed;

    fn resolve(line: &str) -> Result<EstimateArgs, UsageError> {
        match parse(line.split_whitespace().map(std::ffi::OsString::from)) {
            Ok(Parsed::Run(invocation)) => EstimateArgs::resolve(*invocation, &world(&[], b"").0),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[track_caller]
    fn text(line: &str) -> TextArgs {
        match resolve(line) {
            Ok(EstimateArgs::Text(args)) => *args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let args = text("estimate");
        assert_eq!(args.inputs, [Source::Stdin]);
        assert_eq!(args.models, [DEFAULT_MODEL]);
        assert_eq!(
            (args.output_tokens, args.cached, args.show),
            (0, Cached::Tokens(0), Show::Estimate)
        );
        assert_eq!(args.deadline.left(), None);
        assert!(
            MODEL
                .doc
                .contains(&format!("The default is {DEFAULT_MODEL};"))
        );
    }

    #[test]
    fn inputs_keep_their_order_and_models_stand_once() {
        let args = text("estimate a - b -m x,y -m x");
        assert_eq!(
            args.inputs,
            [
                Source::File("a".into()),
                Source::Stdin,
                Source::File("b".into())
            ]
        );
        assert_eq!(args.models, ["x", "y"]);
    }

    #[test]
    fn a_session_needs_its_length_and_takes_no_text() {
        let args = resolve("estimate --session team --duration 30m --workers 4 --role architect");
        let Ok(EstimateArgs::Session(args)) = args else {
            panic!("{args:?}")
        };
        assert_eq!(
            (args.duration.as_secs(), args.workers, args.iterations),
            (1800, 4, None)
        );
        assert_eq!(
            resolve("estimate --session team").unwrap_err().message,
            "--session needs its length"
        );
    }

    #[test]
    fn every_flag_is_of_a_text_or_of_a_session_or_of_both() {
        let both = [
            "max-usd",
            "max-tokens",
            "directory",
            "session",
            "deadline",
            "json",
            "quiet",
            "help",
            "version",
        ];
        for flag in SPEC.flags() {
            let lists = [OF_A_TEXT, OF_A_SESSION, &both];
            let found = lists
                .iter()
                .filter(|list| list.contains(&flag.long))
                .count();
            assert_eq!(found, 1, "--{}", flag.long);
        }
    }

    #[test]
    fn settings_that_nobody_typed_are_not_in_conflict() {
        let mut invocation = match parse(["estimate".into()]) {
            Ok(Parsed::Run(invocation)) => invocation,
            other => panic!("{other:?}"),
        };
        invocation.low.tier = Some(PricingTier::Premium);
        invocation.low.base_url = Some("https://host".to_string());
        assert!(EstimateArgs::resolve(*invocation, &world(&[], b"").0).is_ok());
    }

    #[test]
    fn conflicts_name_both_sides() {
        for (line, message) in [
            (
                "estimate --session team --duration 1h x",
                "--session and FILE exclude each other",
            ),
            (
                "estimate --session team --duration 1h --exact",
                "--session and --exact exclude each other",
            ),
            (
                "estimate --session team --duration 1h -m x",
                "--session and --model exclude each other",
            ),
            (
                "estimate --base-url https://x",
                "--base-url is for --exact, which is not given",
            ),
            ("estimate --tier premium", "--tier needs --session"),
            ("estimate --workers 2", "--workers needs --session"),
            (
                "estimate --ids a b",
                "--ids and more than one FILE exclude each other",
            ),
            (
                "estimate --ids --count",
                "--count and --ids exclude each other",
            ),
            (
                "estimate --count --json",
                "--count and --json exclude each other",
            ),
            (
                "estimate --count -m a,b",
                "--count and more than one model exclude each other",
            ),
            (
                "estimate --price 1,1,1 -m a,b",
                "--price and more than one model exclude each other",
            ),
            ("estimate --no-stdin", "--no-stdin leaves nothing to read"),
            (
                "estimate --no-stdin -",
                "--no-stdin and `-` exclude each other",
            ),
            (
                "estimate - -",
                "`-` is given twice; standard input can be read once",
            ),
        ] {
            assert_eq!(resolve(line).unwrap_err().message, message, "{line}");
        }
        assert_eq!(
            text("estimate --count -m a,b --vocabulary kimi").show,
            Show::Count
        );
    }
}
