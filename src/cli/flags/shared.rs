//! The flags that several commands share, each defined once.
//!
//! A command lists those it takes among its own. It refuses logic: a setter calls one function of [`value`] and stores
//! the result.

use std::path::PathBuf;

use crate::cli::flags::value;
use crate::cli::flags::{Completes, Flag, FlagGroup, Takes};
use crate::cost::record::Transport;
use crate::transport::sandbox::Mode;

/// The flags of every command; they stand after its own.
pub(crate) static COMMON: &[&Flag] = &[&HELP, &VERSION];

/// `--model`.
pub(crate) static MODEL: Flag = Flag {
    long: "model",
    short: Some('m'),
    takes: Takes::Value("NAME[,NAME...]", |low, v| {
        low.model.extend(value::names(v)?);
        Ok(())
    }),
    doc: "Model to ask. The default is kimi-k3; an agent uses the names of its own configuration and has its own \
default. `omk models` lists the models of services.",
    completes: Completes::Models,
    repeats: true,
    variables: &["OMK_MODEL", "KIMI_MODEL_NAME"],
    configurable: true,
    ..Flag::BLANK
};

/// `--price`.
pub(crate) static PRICE: Flag = Flag {
    long: "price",
    takes: Takes::Value("IN,CACHED,OUT", |low, v| {
        low.price = Some(value::price(v)?);
        Ok(())
    }),
    doc: "Rates to use instead of the known ones. US dollars per 1M tokens of input, cached input and output, such as \
0.6,0.15,2.5. With - in the middle, cached tokens cost as much as input. They apply to one model only.",
    ..Flag::BLANK
};

/// `--price-file`.
pub(crate) static PRICE_FILE: Flag = Flag {
    long: "price-file",
    takes: Takes::Value("FILE", |low, v| {
        low.price_file.push(PathBuf::from(v));
        Ok(())
    }),
    doc: "JSON file with rates that override the known ones. Of several files the last one that has the model wins. In \
the config file a relative path starts at the directory of that file. See omk-prices(5).",
    completes: Completes::Files,
    repeats: true,
    variables: &["OMK_PRICE_FILE"],
    configurable: true,
    ..Flag::BLANK
};

/// `--strict-prices`.
pub(crate) static STRICT_PRICES: Flag = Flag {
    long: "strict-prices",
    takes: Takes::Nothing(|low| low.strict_prices = true),
    doc: "Fail when a model has no known price. The exit code is 78. Without this flag the price is unknown (null in \
JSON), with a warning.",
    configurable: true,
    ..Flag::BLANK
};

/// `--max-usd`.
pub(crate) static MAX_USD: Flag = Flag {
    long: "max-usd",
    takes: Takes::Value("USD", |low, v| {
        low.max_usd = Some(value::usd(v)?);
        Ok(())
    }),
    doc: "Fail when the run would cost more than this. A decimal in US dollars; the exit code is 5. A prompt that \
alone costs more is not sent. Over HTTP the answer is limited to what is left; an agent's turn is cancelled before a \
call that would not fit. Without a known price the limit cannot be checked, and the exit code is 78. No limit by \
default.",
    configurable: true,
    ..Flag::BLANK
};

/// `--max-tokens`.
pub(crate) static MAX_TOKENS: Flag = Flag {
    long: "max-tokens",
    takes: Takes::Value("N", |low, v| {
        low.max_tokens = Some(value::count(v)?);
        Ok(())
    }),
    doc: "Fail when the run would use more tokens than this. All calls count, answers included. A whole number, k and \
M allowed; the exit code is 5. No limit by default.",
    configurable: true,
    ..Flag::BLANK
};

/// `--base-url`.
pub(crate) static BASE_URL: Flag = Flag {
    long: "base-url",
    takes: Takes::Value("URL", |low, v| {
        low.base_url = Some(value::base_url(v)?);
        Ok(())
    }),
    doc: "Address of the service. It ends before /chat/completions, as in https://host/v1, and implies HTTP. The \
default is https://api.moonshot.ai/v1.",
    variables: &["OMK_BASE_URL", "KIMI_BASE_URL"],
    configurable: true,
    ..Flag::BLANK
};

/// `--transport`.
pub(crate) static TRANSPORT: Flag = Flag {
    long: "transport",
    takes: Takes::Value("HOW", |low, v| {
        let http = Some(Transport::Http);
        let wire = Some(Transport::Wire);
        let acp = Some(Transport::Acp);
        let kinds = [("auto", None), ("wire", wire), ("acp", acp), ("http", http)];
        low.ask.transport = Some(value::choice(v, &kinds)?);
        Ok(())
    }),
    doc: "How to reach the model. http asks a service; wire asks kimi-cli up to 1.51 or kimi-agent; acp asks Kimi Code \
2. auto, the default, uses HTTP when there is a key or {--base-url}, else the `kimi` on the path.",
    choices: &["auto", "wire", "acp", "http"],
    completes: Completes::Choices,
    variables: &["OMK_TRANSPORT"],
    configurable: true,
    ..Flag::BLANK
};

/// `--kimi`.
pub(crate) static KIMI: Flag = Flag {
    long: "kimi",
    takes: Takes::Value("PATH", |low, v| {
        low.ask.kimi = Some(PathBuf::from(v));
        Ok(())
    }),
    doc: "Agent to ask. The default is the `kimi` on the path. When given, the agent is asked even if there is a key.",
    completes: Completes::Files,
    variables: &["OMK_KIMI"],
    configurable: true,
    ..Flag::BLANK
};

/// `--thinking`.
pub(crate) static THINKING: Flag = Flag {
    long: "thinking",
    takes: Takes::Value("HOW", |low, v| {
        low.ask.thinking = Some(value::word(v)?);
        Ok(())
    }),
    doc: "Whether, or how hard, the model reasons before it answers. A setting that the model does not have is ignored \
with a warning. The default is the model's own.",
    choices: &["on", "off", "low", "high", "max"],
    completes: Completes::Choices,
    configurable: true,
    ..Flag::BLANK
};

/// `--max-output-tokens`.
pub(crate) static MAX_OUTPUT_TOKENS: Flag = Flag {
    long: "max-output-tokens",
    takes: Takes::Value("N", |low, v| {
        low.ask.max_output_tokens = Some(value::positive_count(v)?);
        Ok(())
    }),
    doc: "Longest answer, reasoning included. A whole number, k and M allowed. An answer that is cut is printed, and \
the exit code is 3. Agents have no such limit. The default is the service's.",
    configurable: true,
    ..Flag::BLANK
};

/// `--retries`.
pub(crate) static RETRIES: Flag = Flag {
    long: "retries",
    takes: Takes::Value("N", |low, v| {
        low.ask.retries = Some(value::retries(v)?);
        Ok(())
    }),
    doc: "How often to retry a temporary failure. 0 to 100; the default is 4. The wait starts at half a second and \
doubles; a Retry-After of the service comes first, and {--deadline} ends all waits. Agents retry by themselves.",
    variables: &["OMK_RETRIES"],
    configurable: true,
    ..Flag::BLANK
};

/// `--idle-timeout`.
pub(crate) static IDLE_TIMEOUT: Flag = Flag {
    long: "idle-timeout",
    takes: Takes::Value("DURATION", |low, v| {
        low.ask.idle_timeout = Some(value::positive_duration(v)?);
        Ok(())
    }),
    doc: "Give up an attempt after this much silence. Such as 30s or 5m; the default is 2m. While a tool runs, an \
agent may be silent.",
    variables: &["OMK_IDLE_TIMEOUT"],
    configurable: true,
    ..Flag::BLANK
};

/// `--show-thinking`.
pub(crate) static SHOW_THINKING: Flag = Flag {
    long: "show-thinking",
    takes: Takes::Nothing(|low| low.ask.show_thinking = true),
    doc: "Print the reasoning to standard error. By default only the answer is printed.",
    configurable: true,
    ..Flag::BLANK
};

/// `--record`.
pub(crate) static RECORD: Flag = Flag {
    long: "record",
    takes: Takes::Value("FILE", |low, v| {
        low.ask.record = Some(PathBuf::from(v));
        Ok(())
    }),
    doc: "Record the conversation to FILE. It can be played with {--replay}. It contains the prompt, but not the key.",
    completes: Completes::Files,
    ..Flag::BLANK
};

/// `--replay`.
pub(crate) static REPLAY: Flag = Flag {
    long: "replay",
    takes: Takes::Value("FILE", |low, v| {
        low.ask.replay = Some(PathBuf::from(v));
        Ok(())
    }),
    doc: "Play a recorded conversation. Nothing is sent, and nothing is written to the ledger. A request that differs \
from the recorded one is an error. `example` is a recording that comes with omk.",
    completes: Completes::Files,
    ..Flag::BLANK
};

/// `--name`.
pub(crate) static NAME: Flag = Flag {
    long: "name",
    takes: Takes::Value("NAME", |low, v| {
        low.ask.name = Some(value::name(v)?);
        Ok(())
    }),
    doc: "Name of the run in the ledger. None by default. The ledger never contains text of a prompt.",
    ..Flag::BLANK
};

/// `--tag`.
pub(crate) static TAG: Flag = Flag {
    long: "tag",
    takes: Takes::Value("KEY=VALUE[,...]", |low, v| {
        low.ask.tag.extend(value::tags(v)?);
        Ok(())
    }),
    doc: "Label of the run in the ledger. Reports and budgets can select by label. Labels of OMK_TAGS are added, and \
in CI the repository, workflow and run.",
    repeats: true,
    configurable: true,
    ..Flag::BLANK
};

/// What the ledger and the price of a run go by, for every command that asks.
pub(crate) const LEDGER: FlagGroup = FlagGroup {
    title: "Ledger",
    flags: &[&NAME, &TAG, &PRICE, &PRICE_FILE, &STRICT_PRICES],
};

/// `--directory`.
pub(crate) static DIRECTORY: Flag = Flag {
    long: "directory",
    short: Some('C'),
    takes: Takes::Value("DIR", |low, v| {
        low.directory = Some(PathBuf::from(v));
        Ok(())
    }),
    doc: "Work in DIR. File names are relative to it, and an agent works there. The default is the current directory.",
    completes: Completes::Files,
    ..Flag::BLANK
};

/// `--lossy`.
pub(crate) static LOSSY: Flag = Flag {
    long: "lossy",
    takes: Takes::Nothing(|low| low.lossy = true),
    doc: "Replace invalid UTF-8 and NUL by U+FFFD. Without this flag they are an error that names the offset (exit \
code 65).",
    ..Flag::BLANK
};

/// `--no-stdin`.
pub(crate) static NO_STDIN: Flag = Flag {
    long: "no-stdin",
    takes: Takes::Nothing(|low| low.no_stdin = true),
    doc: "Never read standard input. It is an error if there is nothing else to read, and so is `-`.",
    ..Flag::BLANK
};

/// `--tag` of a report.
pub(crate) static TAG_FILTER: Flag = Flag {
    long: "tag",
    takes: Takes::Value("KEY[=VALUE][,...]", |low, v| {
        low.cost.tags.extend(value::tag_filters(v)?);
        Ok(())
    }),
    doc: "Only runs with this label. With KEY alone any value will do; of several labels a run must have all.",
    repeats: true,
    ..Flag::BLANK
};

/// `--deadline`.
pub(crate) static DEADLINE: Flag = Flag {
    long: "deadline",
    takes: Takes::Value("DURATION", |low, v| {
        low.deadline = Some(value::positive_duration(v)?);
        Ok(())
    }),
    doc: "End the run after this time. All waiting counts, also for input; the exit code is 124. Such as 500ms, 30s, \
2m or 1h, up to 1000h. The default is 15m. Only the look-up of a host name can take longer.",
    variables: &["OMK_DEADLINE"],
    configurable: true,
    ..Flag::BLANK
};

/// `--deadline` of commands that only read.
pub(crate) static READ_DEADLINE: Flag = Flag {
    doc: "End the run after this time. Reading counts too; the exit code is 124. Such as 500ms, 30s, 2m or 1h, up to 1000h. \
No limit by default.",
    ..DEADLINE
};

/// `--json`.
pub(crate) static JSON: Flag = Flag {
    long: "json",
    takes: Takes::Nothing(|low| low.json = true),
    doc: "Print one JSON document. On failure too, with the reason in `error`. See omk-json(5).",
    ..Flag::BLANK
};

/// `--quiet`.
pub(crate) static QUIET: Flag = Flag {
    long: "quiet",
    short: Some('q'),
    takes: Takes::Nothing(|low| low.quiet = true),
    doc: "Print no warnings. Errors are still printed, and JSON still contains the warnings.",
    configurable: true,
    ..Flag::BLANK
};

/// `--help`.
pub(crate) static HELP: Flag = Flag {
    long: "help",
    short: Some('h'),
    takes: Takes::Help,
    doc: "Print help. -h prints a summary, --help everything.",
    ..Flag::BLANK
};

/// `--version`.
pub(crate) static VERSION: Flag = Flag {
    long: "version",
    short: Some('V'),
    takes: Takes::Version,
    doc: "Print the version.",
    ..Flag::BLANK
};

/// `--sandbox`.
pub(crate) static SANDBOX: Flag = Flag {
    long: "sandbox",
    takes: Takes::Value("MODE", |low, v| {
        let modes = [
            ("read-only", Mode::ReadOnly),
            ("workspace", Mode::Workspace),
        ];
        low.ask.sandbox = Some(value::choice(v, &modes)?);
        Ok(())
    }),
    choices: &["read-only", "workspace"],
    completes: Completes::Choices,
    doc: "Run the agent in a bubblewrap sandbox. The file system is read-only and the home directory hidden, except \
for what the agent needs. With workspace the work directory can be written. Nothing that the agent started survives. \
The network stays open, because the agent needs its service. Needs Linux and bwrap (apt-get install bubblewrap). In \
CI, use it with {--allow} all. See omk-security(7). No sandbox by default.",
    configurable: true,
    ..Flag::BLANK
};

/// `--max-repeats`.
pub(crate) static MAX_REPEATS: Flag = Flag {
    long: "max-repeats",
    takes: Takes::Value("N", |low, v| {
        low.ask.max_repeats = Some(value::retries(v)?);
        Ok(())
    }),
    doc: "How often an agent may repeat a tool call. The same tool with the same arguments in one turn. One more \
cancels the turn with exit code 6, so that an agent in a loop does not go on spending. The default is 20.",
    configurable: true,
    ..Flag::BLANK
};

/// `--max-steps`.
pub(crate) static MAX_STEPS: Flag = Flag {
    long: "max-steps",
    takes: Takes::Value("N", |low, v| {
        low.ask.max_steps = Some(value::steps(v)?);
        Ok(())
    }),
    doc: "The most steps of an agent's turn. A step is one call of the model and the tools that it asks for; a sub-agent's turn has \
the same limit. A turn whose last step asks for a tool ends with exit code 5. Text of the last step that is allowed can only be the \
answer, so it is printed as it comes: with 1 that is the first. The default is the agent's own limit.",
    configurable: true,
    ..Flag::BLANK
};

/// `--add-dir`.
pub(crate) static ADD_DIR: Flag = Flag {
    long: "add-dir",
    takes: Takes::Value("DIR", |low, v| {
        low.ask.add_dir.push(PathBuf::from(v));
        Ok(())
    }),
    doc: "Directory that an agent may work in too. Files there count as files of the work directory. With {--sandbox} the agent \
can read them, and with workspace it can write them. Rules name them by their absolute paths. kimi-agent has no such setting.",
    completes: Completes::Files,
    repeats: true,
    ..Flag::BLANK
};

/// `--insecure`.
pub(crate) static INSECURE: Flag = Flag {
    long: "insecure",
    takes: Takes::Nothing(|low| low.ask.insecure = true),
    doc: "Send the key over plain HTTP to another machine. Anyone on the way can read it, so it is refused otherwise. \
Addresses of this machine, such as 127.0.0.1, need no flag.",
    ..Flag::BLANK
};

/// `--allow-secrets`.
pub(crate) static ALLOW_SECRETS: Flag = Flag {
    long: "allow-secrets",
    takes: Takes::Nothing(|low| low.ask.allow_secrets = true),
    doc: "Send the prompt even if it contains a key. Otherwise a private key or a token with an unmistakable form ends \
the run with exit code 65 before anything is sent. Known are tokens of GitHub, GitLab, AWS, Slack, Google, Stripe, \
npm, PyPI, SendGrid and model services, and signed JSON web tokens. The message names file, line and kind, never the \
value. Passwords are not detected.",
    ..Flag::BLANK
};
