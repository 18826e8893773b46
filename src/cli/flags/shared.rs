//! The flags that several commands share, each defined once.
//!
//! A command lists those it takes among its own. It refuses logic: a setter calls one function of [`value`] and stores
//! the result.

use std::path::PathBuf;

use crate::cli::flags::value;
use crate::cli::flags::{Completes, Flag, Takes};
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
    doc: "Model to ask. An agent takes the names of its own configuration. The default is kimi-k3, of an agent its own; \
`omk models` lists the models of services.",
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
    doc: "Rates to use instead of the known ones. Amounts in USD per 1M tokens for input, cached input and output, \
such as 0.6,0.15,2.5. With a - in the middle the cached rate is unknown, and cached tokens are priced in full. They hold \
for one model only.",
    ..Flag::BLANK
};

/// `--price-file`.
pub(crate) static PRICE_FILE: Flag = Flag {
    long: "price-file",
    takes: Takes::Value("FILE", |low, v| {
        low.price_file.push(PathBuf::from(v));
        Ok(())
    }),
    doc: "JSON file of rates that override the known ones. Of several files the last that has a model wins. In \
the config file a relative name counts from the directory of that file.",
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
    doc: "Fail when a model has no known price. The exit code is 78; without this flag its price is unknown (null \
in JSON) and a warning says so.",
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
    doc: "Fail when the price is above this. A decimal from 0 to 1000000 in USD, exact to 12 decimals; the exit code is 5. What \
alone costs more is not sent; over HTTP the answer is limited to what is left, and the turn of an agent is cancelled when \
its usage exceeds it. A price that is not known cannot be checked, and the exit code is 78. There is no limit by default.",
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
    doc: "Fail when there are more tokens than this. Those of all calls together, answers included. A whole number, k and M \
allowed; the exit code is 5. There is no limit by default.",
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
    doc: "Address of the service to ask. It ends before /chat/completions, as in https://host/v1, and means HTTP. The default is \
https://api.moonshot.ai/v1.",
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
    doc: "How to reach the model. http asks a service, wire kimi-cli up to 1.51 or kimi-agent, acp Kimi Code 2; auto, \
the default, takes http when there is a key or a {--base-url}, else the `kimi` that is found.",
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
    doc: "The agent to ask. The default is the `kimi` on the path; given, it is asked even where there is a key.",
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
    doc: "Whether, or how hard, the model reasons before it answers. What a model has no setting for is left out \
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
    doc: "The longest answer, reasoning included. A whole number, k and M allowed; an answer that it cuts is printed \
and the exit code is 3. Agents take no such limit. The default is the service's.",
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
    doc: "How often to try again what may pass. 0 to 100; the default is 4. The wait doubles from half a second, and \
the service's own wish comes first; no wait goes past {--deadline}. An agent makes these attempts itself.",
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
    doc: "Give an attempt up when nothing is heard for this long. Such as 30s or 5m; the default is 2m. While a tool \
runs an agent may be silent.",
    variables: &["OMK_IDLE_TIMEOUT"],
    configurable: true,
    ..Flag::BLANK
};

/// `--show-thinking`.
pub(crate) static SHOW_THINKING: Flag = Flag {
    long: "show-thinking",
    takes: Takes::Nothing(|low| low.ask.show_thinking = true),
    doc: "Print the reasoning to standard error as it comes. By default only the answer is printed.",
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
    doc: "Write the conversation with the peer to FILE. For {--replay}; the key is not in it, the prompt is.",
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
    doc: "Play a recorded conversation instead of asking anyone. A request that differs from the recorded one is an \
error; nothing is written to the ledger. `example` is a recording that comes with omk.",
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
    doc: "Name of the run in the ledger. By default it has none; text of a prompt never stands there.",
    ..Flag::BLANK
};

/// `--tag`.
pub(crate) static TAG: Flag = Flag {
    long: "tag",
    takes: Takes::Value("KEY=VALUE[,...]", |low, v| {
        low.ask.tag.extend(value::tags(v)?);
        Ok(())
    }),
    doc: "Label of the run in the ledger. Reports and budgets can be by tag; those of OMK_TAGS are added, and in a CI \
system the repository, workflow and run.",
    repeats: true,
    configurable: true,
    ..Flag::BLANK
};

/// `--directory`.
pub(crate) static DIRECTORY: Flag = Flag {
    long: "directory",
    short: Some('C'),
    takes: Takes::Value("DIR", |low, v| {
        low.directory = Some(PathBuf::from(v));
        Ok(())
    }),
    doc: "Work in DIR. Names of files count from there, and an agent works there. The default is the current directory.",
    completes: Completes::Files,
    ..Flag::BLANK
};

/// `--lossy`.
pub(crate) static LOSSY: Flag = Flag {
    long: "lossy",
    takes: Takes::Nothing(|low| low.lossy = true),
    doc: "Replace bad bytes and NUL by U+FFFD. Without it a byte that is not UTF-8, or a NUL, is an error that \
names its offset (exit code 65).",
    ..Flag::BLANK
};

/// `--no-stdin`.
pub(crate) static NO_STDIN: Flag = Flag {
    long: "no-stdin",
    takes: Takes::Nothing(|low| low.no_stdin = true),
    doc: "Never read standard input. With nothing else to read this is an error, and so is `-`.",
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
    doc: "End the run when it takes longer than this. Every wait counts, that for input too; the exit code is 124 and the \
message names the wait. Such as 500ms, 30s, 2m or 1h, up to 1000h. The default is 15m. Looking up the name of a host is the \
one wait that may take longer.",
    variables: &["OMK_DEADLINE"],
    configurable: true,
    ..Flag::BLANK
};

/// `--json`.
pub(crate) static JSON: Flag = Flag {
    long: "json",
    takes: Takes::Nothing(|low| low.json = true),
    doc: "Print one JSON document. It is printed on failure too, with the reason under `error`; fields are only \
ever added to it.",
    ..Flag::BLANK
};

/// `--quiet`.
pub(crate) static QUIET: Flag = Flag {
    long: "quiet",
    short: Some('q'),
    takes: Takes::Nothing(|low| low.quiet = true),
    doc: "Print no warnings. Errors are still printed, and warnings still stand in JSON.",
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
    doc: "Run the agent in a sandbox of bubblewrap's. The file system is read-only, the home directory is hidden but for \
what the agent needs to run, /tmp is its own, and nothing that it started outlives it. With workspace it may write to the \
directory that omk runs in; with either to its own home, where its sessions are. The network stays as it is: the agent needs \
its service. Needs Linux and the program bwrap (apt-get install bubblewrap), without which nothing runs. For CI, {--allow} all \
with {--sandbox} workspace is safer than any list of patterns. The default is no sandbox.",
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
    doc: "How often an agent may do the very same. That is the same tool with the same arguments in one turn. Once more, and the turn is cancelled with exit \
code 6: an agent that repeats itself pays for each step and gets nowhere. The default is 20.",
    configurable: true,
    ..Flag::BLANK
};

/// `--insecure`.
pub(crate) static INSECURE: Flag = Flag {
    long: "insecure",
    takes: Takes::Nothing(|low| low.ask.insecure = true),
    doc: "Send the key over plain HTTP to another machine. Whoever is on the way can read it, so this is refused otherwise; \
addresses of this machine, such as 127.0.0.1, need no flag.",
    ..Flag::BLANK
};

/// `--allow-secrets`.
pub(crate) static ALLOW_SECRETS: Flag = Flag {
    long: "allow-secrets",
    takes: Takes::Nothing(|low| low.ask.allow_secrets = true),
    doc: "Send the prompt although a key stands in it. Otherwise a text, file or standard input with a key of an \
unmistakable form (a private key, or a token of GitHub, GitLab, AWS, Slack, Google, Stripe, npm, PyPI, SendGrid or a model \
service, or a signed JSON web token) ends the run with exit code 65 before anything is sent; the message names the file, the \
line and the kind, never the value. Passwords and other secrets without such a form are not found.",
    ..Flag::BLANK
};
