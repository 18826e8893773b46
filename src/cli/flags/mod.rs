//! The command line as data. Each command describes itself and its flags in a [`CommandSpec`]; a [`table::Table`] is
//! the list of them, [`parse`] reads arguments against it, and [`crate::cli::doc`] renders it as help, man page and
//! completions. [`shared`] has the flags of several commands.
//!
//! Nothing here looks at the environment, a file or a terminal. [`LowArgs`] mirrors what was typed;
//! what it means, with defaults and conflicts, is decided by the command that takes it.

pub(crate) mod familiar;
pub(crate) mod parse;
pub(crate) mod shared;
pub(crate) mod table;
pub(crate) mod value;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::catalog::Price;
use crate::catalog::money::Usd;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cost::budget::{Budget, TagFilter};
use crate::cost::estimator::PricingTier;
use crate::cost::record::SessionStatus;
use crate::cost::record::Transport;
use crate::cost::report::By;
use crate::llm::client::Rule;
use crate::plan::check::PlanFormat;
use crate::plan::finding::Code;
use crate::tokens::Vocabulary;
use crate::transport::sandbox::Mode;

/// The documentation of a command, and what may follow it.
pub(crate) struct CommandSpec {
    /// The words that select it, separated by one space.
    pub(crate) name: &'static str,
    /// The positional arguments as the usage line shows them; empty when it takes none.
    pub(crate) positionals: &'static str,
    /// What a shell may offer for a positional argument.
    pub(crate) completes: Completes,
    /// The most positional arguments it takes.
    pub(crate) at_most: usize,
    /// One line.
    pub(crate) summary: &'static str,
    /// Paragraphs, separated by an empty line.
    pub(crate) doc: &'static str,
    /// Command lines and what each does.
    pub(crate) examples: &'static [(&'static str, &'static str)],
    /// Its own flags by what they are for; those of every command follow them.
    pub(crate) flags: &'static [FlagGroup],
    /// Settles what the arguments come to, and does it.
    pub(crate) run: Run,
}

/// The body of a command. `Err` means that nothing but the failure is to be printed; after `Ok` it has printed its result,
/// whatever the exit code.
pub(crate) type Run = fn(Invocation, &mut Env) -> Result<Exit, Failure>;

/// Flags of a command that belong together.
pub(crate) struct FlagGroup {
    /// What they are for, in one or two words; empty when a command has only one group.
    pub(crate) title: &'static str,
    /// The flags, in the order of the documentation.
    pub(crate) flags: &'static [&'static Flag],
}

impl CommandSpec {
    /// All its flags, in the order of the documentation.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        let own = self.flags.iter().flat_map(|group| group.flags);
        own.chain(shared::COMMON).copied()
    }

    /// Does it take this flag?
    pub(crate) fn has(&self, flag: &Flag) -> bool {
        self.flags().any(|own| std::ptr::eq(own, flag))
    }

    /// How it is written: `omk estimate [OPTIONS] [FILE]...`.
    pub(crate) fn usage(&self) -> String {
        let space = if self.positionals.is_empty() { "" } else { " " };
        format!("omk {} [OPTIONS]{space}{}", self.name, self.positionals)
    }
}

/// A command is its name.
impl PartialEq for CommandSpec {
    fn eq(&self, other: &CommandSpec) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "omk {}", self.name)
    }
}

/// A command to run, with its arguments as typed.
#[derive(Debug, PartialEq)]
pub(crate) struct Invocation {
    /// Which command.
    pub(crate) command: &'static CommandSpec,
    /// Its arguments.
    pub(crate) low: LowArgs,
    /// The long names of the flags that were typed: no variable or config key replaces them, and
    /// only they can be in conflict.
    pub(crate) given: Vec<&'static str>,
}

/// One flag: how it is written, what it means, what it sets.
#[derive(Clone, Copy)]
pub(crate) struct Flag {
    /// The name after `--`; also the key in the config file.
    pub(crate) long: &'static str,
    /// The letter after `-`.
    pub(crate) short: Option<char>,
    /// Does it take a value, and what does it do?
    pub(crate) takes: Takes,
    /// One paragraph of plain text: what it does, the unit and range of its value, its default. The
    /// first sentence alone is the short help. `{--flag}` refers to another flag.
    pub(crate) doc: &'static str,
    /// The only values it accepts; empty when there is no such list.
    pub(crate) choices: &'static [&'static str],
    /// What a shell may offer for its value.
    pub(crate) completes: Completes,
    /// Does a second one add to the first instead of replacing it?
    pub(crate) repeats: bool,
    /// The variables that set it when it is not given, the first one that is set wins.
    pub(crate) variables: &'static [&'static str],
    /// May the config file set it?
    pub(crate) configurable: bool,
}

/// What a flag takes and does. A setter records and never acts; its error does not name the flag,
/// since the parser, the environment and the config file each name it in their own way.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    /// A switch.
    Nothing(fn(&mut LowArgs)),
    /// A value, shown under this name.
    Value(&'static str, SetValue),
    /// Prints help instead of running: the short form for `-h`.
    Help,
    /// Prints the version instead of running.
    Version,
}

/// Records a value; fails with what was expected instead.
pub(crate) type SetValue = fn(&mut LowArgs, &OsStr) -> Result<(), String>;

/// What a shell may offer to complete a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completes {
    /// Nothing sensible.
    Nothing,
    /// Names of files.
    Files,
    /// The choices of the flag.
    Choices,
    /// Names of models.
    Models,
    /// Shells that have completions.
    Shells,
    /// Names of commands.
    Commands,
}

impl Flag {
    /// What most flags share, so that each shows only what is its own.
    pub(crate) const BLANK: Flag = Flag {
        long: "",
        short: None,
        takes: Takes::Help,
        doc: "",
        choices: &[],
        completes: Completes::Nothing,
        repeats: false,
        variables: &[],
        configurable: false,
    };

    /// The name of its value; `None` for a switch.
    pub(crate) fn value_name(&self) -> Option<&'static str> {
        match self.takes {
            Takes::Value(name, _) => Some(name),
            Takes::Nothing(_) | Takes::Help | Takes::Version => None,
        }
    }
}

/// The arguments as typed, of whatever command. Resolving takes it apart field by field, so a new
/// one stops the build until every command has decided what it means there.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LowArgs {
    pub(crate) positionals: Vec<OsString>,
    /// `--` was given: what follows is meant as it stands.
    pub(crate) is_literal: bool,
    pub(crate) model: Vec<String>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) cached: Option<value::Cached>,
    pub(crate) price: Option<Price>,
    pub(crate) price_file: Vec<PathBuf>,
    pub(crate) strict_prices: bool,
    pub(crate) max_usd: Option<Usd>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) exact: bool,
    pub(crate) base_url: Option<String>,
    pub(crate) count: bool,
    pub(crate) ids: bool,
    pub(crate) special: bool,
    pub(crate) vocabulary: Option<Vocabulary>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) lossy: bool,
    pub(crate) no_stdin: bool,
    pub(crate) session: Option<value::Session>,
    pub(crate) duration: Option<Duration>,
    pub(crate) workers: Option<u64>,
    pub(crate) iterations: Option<u64>,
    pub(crate) role: Option<String>,
    pub(crate) tier: Option<PricingTier>,
    pub(crate) estimate: LowEstimate,
    pub(crate) doctor: LowDoctor,
    pub(crate) ask: LowAsk,
    pub(crate) batch: LowBatch,
    pub(crate) plan: LowPlan,
    pub(crate) schema_of: Option<&'static str>,
    pub(crate) cost: LowCost,
    pub(crate) all: bool,
    pub(crate) url: Option<String>,
    pub(crate) format: Option<value::Format>,
    pub(crate) strict: bool,
    pub(crate) deadline: Option<Duration>,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

/// The arguments as typed that only an estimate of files has.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LowDoctor {
    pub(crate) offline: bool,
    pub(crate) fix: bool,
}

/// The arguments as typed that only an estimate has.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LowEstimate {
    pub(crate) top: Option<u64>,
    pub(crate) by: Option<value::Grouping>,
    pub(crate) truncate: Option<u64>,
    pub(crate) truncate_from: Option<value::CutFrom>,
}

/// The arguments as typed that only a question to a model has.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LowAsk {
    pub(crate) transport: Option<Option<Transport>>,
    pub(crate) kimi: Option<PathBuf>,
    pub(crate) system: Option<String>,
    pub(crate) file: Vec<PathBuf>,
    pub(crate) image: Vec<PathBuf>,
    pub(crate) allow: Vec<Rule>,
    pub(crate) sandbox: Option<Mode>,
    pub(crate) max_repeats: Option<u32>,
    pub(crate) max_steps: Option<u32>,
    pub(crate) add_dir: Vec<PathBuf>,
    pub(crate) asks: bool,
    pub(crate) show_steps: bool,
    pub(crate) show_tools: bool,
    pub(crate) insecure: bool,
    pub(crate) allow_secrets: bool,
    pub(crate) thinking: Option<value::Thinking>,
    pub(crate) temperature: Option<f64>,
    pub(crate) max_output_tokens: Option<u64>,
    pub(crate) conversation: Option<String>,
    pub(crate) resume: bool,
    pub(crate) schema: Option<value::SchemaSource>,
    /// As it was named.
    pub(crate) template: Option<OsString>,
    /// Its text, once it was read.
    pub(crate) template_body: Option<String>,
    pub(crate) vars: Vec<(String, value::VarValue)>,
    pub(crate) extract: bool,
    pub(crate) raw: bool,
    pub(crate) no_stream: bool,
    pub(crate) dry_run: bool,
    pub(crate) verbose: bool,
    pub(crate) output_last_message: Option<PathBuf>,
    pub(crate) retries: Option<u32>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) show_thinking: bool,
    pub(crate) stream_json: bool,
    pub(crate) record: Option<PathBuf>,
    pub(crate) replay: Option<PathBuf>,
    pub(crate) name: Option<String>,
    pub(crate) tag: Vec<(String, String)>,
}

/// The arguments as typed that only a batch has.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LowBatch {
    pub(crate) output: Option<PathBuf>,
    pub(crate) read_as: Option<crate::batch::input::Format>,
    pub(crate) ordered: bool,
    pub(crate) jobs: Option<u64>,
    pub(crate) rpm: Option<u64>,
    pub(crate) tpm: Option<u64>,
    pub(crate) keep_going: bool,
    pub(crate) max_failures: Option<u64>,
    pub(crate) retry_unknown: bool,
}

/// The arguments as typed that only a goal to plan has.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LowPlan {
    pub(crate) context: Vec<PathBuf>,
    pub(crate) no_context: bool,
    pub(crate) dry_run: bool,
    pub(crate) classify_only: bool,
    pub(crate) separately: bool,
    pub(crate) read_as: Option<PlanFormat>,
    pub(crate) explain: Option<Code>,
}

/// The arguments as typed that only the ledger's commands have.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LowCost {
    pub(crate) by: Option<By>,
    pub(crate) tags: Vec<TagFilter>,
    pub(crate) since: Option<value::When>,
    pub(crate) until: Option<value::When>,
    pub(crate) before: Option<value::When>,
    pub(crate) csv: bool,
    pub(crate) status: Vec<SessionStatus>,
    pub(crate) limit: Option<u64>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) dry_run: bool,
    pub(crate) all_hosts: bool,
    pub(crate) yes: bool,
    pub(crate) format: Option<value::ExportFormat>,
    pub(crate) output: Option<PathBuf>,
    pub(crate) otlp: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) fleet: bool,
    pub(crate) fleet_timeout: Option<Duration>,
    pub(crate) settle_usd: Option<Usd>,
    pub(crate) settle_cny: Option<Usd>,
    pub(crate) void: bool,
    pub(crate) note: Option<String>,
    pub(crate) force: bool,
    pub(crate) allow_unknown: bool,
    pub(crate) unknown: bool,
}

/// The command line is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError {
    /// What is wrong, naming the argument.
    pub(crate) message: String,
    /// What was probably meant.
    pub(crate) hints: Vec<String>,
}

impl UsageError {
    /// An error without hints.
    pub(crate) fn new(message: impl Into<String>) -> UsageError {
        UsageError {
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// The same error with one more hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> UsageError {
        self.hints.push(hint.into());
        self
    }

    /// Two flags, or a flag and something else, that exclude each other. Both are named as typed.
    pub(crate) fn conflict(one: &str, other: &str) -> UsageError {
        UsageError::new(format!("{one} and {other} exclude each other"))
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Failure {
        Failure {
            hints: error.hints,
            ..Failure::new(Exit::Usage, "usage", error.message)
        }
    }
}
