//! The table: every command and every flag, in the order in which they are documented.
//!
//! The parser, the help, the man page, the completions, the variables and the config file are all
//! readings of it. It refuses logic: a setter calls one function of [`value`] and stores the
//! result.

use std::path::PathBuf;

use crate::cli::flags::Command::{self, Completions, Estimate, Help, Models, ModelsUpdate};
use crate::cli::flags::Command::{
    CostCheck, CostClear, CostExplain, CostExport, CostImport, CostList, CostPath, CostPush,
    CostRecover, CostReport, CostShow,
};
use crate::cli::flags::Command::{Plan, PlanCheck, PlanDiff, PlanShow, Prompt};
use crate::cli::flags::value::{self, ExportFormat, Session, Thinking};
use crate::cli::flags::{CommandSpec, Completes, Flag, Takes};
use crate::cost::estimator::PricingTier;
use crate::cost::record::Transport;
use crate::cost::report::By;
use crate::tokens::Vocabulary;

/// Every command, in the order of the documentation.
pub(crate) const COMMANDS: &[&CommandSpec] = &[
    &PROMPT,
    &PLAN,
    &PLAN_CHECK,
    &PLAN_SHOW,
    &PLAN_DIFF,
    &ESTIMATE,
    &COST_REPORT,
    &COST_LIST,
    &COST_SHOW,
    &COST_EXPLAIN,
    &COST_CHECK,
    &COST_RECOVER,
    &COST_IMPORT,
    &COST_EXPORT,
    &COST_PUSH,
    &COST_CLEAR,
    &COST_PATH,
    &MODELS,
    &MODELS_UPDATE,
    &COMPLETIONS,
    &HELP,
];

/// The words that begin several commands and are none, and the command that each means by itself.
pub(crate) const GROUPS: &[(&str, Command)] = &[("cost", CostReport)];

impl Command {
    /// Its documentation.
    pub(crate) fn spec(self) -> &'static CommandSpec {
        match self {
            Prompt => &PROMPT,
            Estimate => &ESTIMATE,
            CostReport => &COST_REPORT,
            CostList => &COST_LIST,
            CostShow => &COST_SHOW,
            CostExplain => &COST_EXPLAIN,
            CostCheck => &COST_CHECK,
            CostRecover => &COST_RECOVER,
            CostImport => &COST_IMPORT,
            CostExport => &COST_EXPORT,
            CostPush => &COST_PUSH,
            CostClear => &COST_CLEAR,
            CostPath => &COST_PATH,
            Models => &MODELS,
            ModelsUpdate => &MODELS_UPDATE,
            Plan => &PLAN,
            PlanCheck => &PLAN_CHECK,
            PlanShow => &PLAN_SHOW,
            PlanDiff => &PLAN_DIFF,
            Completions => &COMPLETIONS,
            Help => &HELP,
        }
    }
}

/// The program in one line.
pub(crate) const SUMMARY: &str =
    "ask a Kimi model from a script, and know what it costs before and after";

/// The program in a few paragraphs, separated by an empty line.
pub(crate) const DESCRIPTION: &str = "omk asks a Kimi model a question, through the Kimi agent that is installed or over \
HTTP, and writes down what it cost. It counts the tokens of a text as the model's own tokenizer does, offline, and says \
what asking would cost. Text goes in through files or a pipe, the result comes out on standard output and nothing else \
does; messages go to standard error. One exit code tells a script how it went.\n\n\
With {--json} standard output is exactly one JSON document, on failure too.\n\n\
A setting is taken from the flag, else from its variable, else from the config file, else its default holds.";

const PROMPT: CommandSpec = CommandSpec {
    command: Prompt,
    name: "prompt",
    positionals: "[TEXT]...",
    completes: Completes::Nothing,
    at_most: usize::MAX,
    summary: "ask once and print the answer",
    doc: "Asks a model one question and prints its answer. The words of TEXT are joined by blanks. Each {--file} follows \
as a block with its name. Standard input is read when there is no TEXT, where `-` stands for it, and whenever it is a pipe \
or a file; beside a TEXT it follows as a block of its own.\n\n\
With a key in MOONSHOT_API_KEY or KIMI_API_KEY the service is asked over HTTP, otherwise the `kimi` on the path: Kimi Code \
2, or kimi-cli up to 1.51. The answer is the same; what is different is said: an agent may use tools when {--allow} lets \
it, and text of the steps before its answer goes to standard error.\n\n\
Before anything is sent the prompt is counted, the worst case is held against {--max-tokens}, {--max-usd} and OMK_BUDGET, \
and an open record of it stands in the ledger. What was used is written down as it becomes known, so that a run that is \
killed is not forgotten.\n\n\
A service or agent that fails in a way that may pass is asked again, as {--retries} says, until something of the answer \
was printed.",
    examples: &[
        (
            "omk prompt \"Which of these functions has no test?\" < src/lib.rs",
            "A question about a file.",
        ),
        (
            "git diff --staged | omk prompt \"Write a commit message\" > msg.txt",
            "Text in, text out.",
        ),
        (
            "omk prompt --json --max-usd 0.20 --deadline 120s --allow Read \"...\" | jq .usage",
            "Limits, and the whole result as JSON.",
        ),
        (
            "omk prompt -f spec.md -f api.rs --image shot.png --system \"You are terse.\" \"...\"",
            "Files, a picture and instructions.",
        ),
        (
            "omk prompt --transport wire --kimi /path/to/kimi --session nightly \"go on\"",
            "A certain agent, and a conversation that goes on.",
        ),
        (
            "omk prompt --replay example \"In one sentence: why count tokens before asking?\"",
            "A recorded answer: works without a key, an agent or a network.",
        ),
    ],
};

const ESTIMATE: CommandSpec = CommandSpec {
    command: Estimate,
    name: "estimate",
    positionals: "[FILE]...",
    completes: Completes::Files,
    at_most: usize::MAX,
    summary: "count tokens and price them, before asking",
    doc: "Counts the tokens of each FILE and says what sending them would cost. Without a FILE, or where `-` stands for \
one, standard input is read. No network is used, unless {--exact} asks for it.\n\n\
Input must be UTF-8 without NUL; otherwise the offset of the bad byte is named and nothing is guessed ({--lossy} \
replaces instead). A byte order mark and every kind of line end are text and are counted. Input of any size is read in \
pieces. A file that cannot be read is named, the others are still counted, and the exit code tells.\n\n\
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
            "omk estimate --count < prompt.txt",
            "The number of tokens and nothing else.",
        ),
        (
            "omk estimate --session team --duration 30m --workers 4",
            "What half an hour of four workers may cost.",
        ),
    ],
};

const PLAN: CommandSpec = CommandSpec {
    command: Plan,
    name: "plan",
    positionals: "[GOAL]...",
    completes: Completes::Nothing,
    at_most: usize::MAX,
    summary: "a goal becomes a validated and priced plan",
    doc: "Asks a model to plan the work that GOAL asks for, and holds its answer to what a plan must be: slices with names of \
their own, dependencies without a circle, no two slices of one wave that write the same file, criteria. What is wrong is \
sent back once; a plan that is still wrong is no plan, and the exit code is 4. Without a GOAL it is read from standard \
input, which otherwise follows as a text of its own.\n\n\
The model is told of the directory, by names and figures ({--no-context} tells it nothing, {--dry-run} shows what). An \
agent plans without a single permission, so planning changes nothing.\n\n\
The plan is printed with its waves, its critical path, what planning did cost and what carrying it out may cost, and on what \
that rests. Whom it asks, limits, retries, recordings and the ledger are those of `omk prompt`.",
    examples: &[
        (
            "omk plan \"Add OAuth login to the API\"",
            "A plan to read: kind, complexity, slices in waves, criteria, price.",
        ),
        (
            "omk plan --json < goal.md > plan.json",
            "The same as JSON, schema omk.plan/1.",
        ),
        (
            "omk plan --classify-only \"Make it faster\"",
            "What kind of goal it is, and whether it is vague.",
        ),
        (
            "omk plan --max-usd 0.10 --format markdown \"Add OAuth login\" > PLAN.md",
            "With a limit, as Markdown.",
        ),
    ],
};

const PLAN_CHECK: CommandSpec = CommandSpec {
    command: PlanCheck,
    name: "plan check",
    positionals: "FILE...",
    completes: Completes::Files,
    at_most: usize::MAX,
    summary: "find mistakes in anybody's plan, offline",
    doc: "Looks at each FILE, or at standard input where `-` stands for one, and says what is wrong with the plan in it: \
circles, dependencies on nothing, slices that write the same file at the same time, criteria that nobody could check. It \
knows plans of omk (omk.plan/1, and what a model answered), tasks.json of task-master and tasks.md of spec-kit, and tells \
them apart by what is in them. The same text has the same findings every time; no network is used.\n\n\
Each finding has a code that never changes its meaning; the section FINDINGS of the man page lists them. An error makes the \
exit code 4, with {--strict} a warning too.",
    examples: &[
        ("omk plan check plan.json", "What is wrong with a plan."),
        (
            "omk plan check .taskmaster/tasks/tasks.json specs/001-login/tasks.md --strict",
            "Plans of other tools, warnings counted as errors.",
        ),
        (
            "omk plan check plan.json --format sarif > plan.sarif",
            "Findings for a code scanning service.",
        ),
    ],
};

const PLAN_SHOW: CommandSpec = CommandSpec {
    command: PlanShow,
    name: "plan show",
    positionals: "FILE",
    completes: Completes::Files,
    at_most: 1,
    summary: "print a plan as text, Markdown, a graph or rows",
    doc: "Prints the plan in FILE, or on standard input for `-`, in the form that {--format} names: what to do in which \
wave, what it writes, the critical path, the criteria, and what carrying it out may cost.\n\n\
The price is the one in the file, unless {--model} is given or the file has none: then it is estimated anew. It is a rule \
of thumb from the plan's own guesses of tokens, or from each slice's difficulty, and its basis is printed with it.",
    examples: &[
        ("omk plan show plan.json", "A plan to read."),
        (
            "omk plan show plan.json --format mermaid",
            "Its graph, for a Markdown document.",
        ),
        (
            "omk plan show plan.json --format csv --model kimi-k3",
            "A row for each slice.",
        ),
    ],
};

const PLAN_DIFF: CommandSpec = CommandSpec {
    command: PlanDiff,
    name: "plan diff",
    positionals: "A B",
    completes: Completes::Files,
    at_most: 2,
    summary: "compare two plans",
    doc: "Says what plan B has otherwise than plan A: slices added, removed and changed, waves, critical path, criteria and \
what carrying it out may cost, both priced for the same model. Slices are the same when their ids are. One of the two may be \
`-` for standard input. As with diff, the exit code is 0 for no difference and 1 for some; above that something went wrong.",
    examples: &[
        ("omk plan diff old.json new.json", "What changed."),
        (
            "omk plan diff old.json new.json --json --model kimi-k3",
            "The same as one JSON document, priced for a model.",
        ),
    ],
};

const COST_REPORT: CommandSpec = CommandSpec {
    command: CostReport,
    name: "cost report",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "add up what runs cost, by day, model, label and more",
    doc: "Adds up the runs of the ledger, by day where {--by} names nothing else. `omk cost` alone is the same command; \
`omk cost list`, `show`, `explain`, `check`, `recover`, `import`, `export`, `push`, `clear` and `path` are its kin.\n\n\
Four things are never added to one another: what was billed per token (usd); what is only bounded, because a run is open, \
was killed or was not told what it used (in doubt, with the most it can be); runs of which neither amount nor bound is \
known (unpriced, a count and never 0 USD); and what a subscription's tokens would have cost at list price (plan). Days are in UTC.",
    examples: &[
        (
            "omk cost report --by model --since 7d",
            "The last seven days by model.",
        ),
        (
            "omk cost report --by tag --tag team --since 2026-11 --csv",
            "A month by the value of a label, for a spreadsheet.",
        ),
        (
            "omk cost report --by month --tag ci --json",
            "What CI costs a month, as JSON.",
        ),
    ],
};

const COST_LIST: CommandSpec = CommandSpec {
    command: CostList,
    name: "cost list",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "list runs, the newest first",
    doc: "Lists runs of the ledger, the newest first, with what each cost or can cost at most.",
    examples: &[
        (
            "omk cost list --status open",
            "Runs under way, and those that were killed.",
        ),
        (
            "omk cost list --since 1d --limit 100 --json",
            "Today's runs as JSON.",
        ),
    ],
};

const COST_SHOW: CommandSpec = CommandSpec {
    command: CostShow,
    name: "cost show",
    positionals: "ID",
    completes: Completes::Nothing,
    at_most: 1,
    summary: "print all that is known of a run",
    doc: "Prints the record of the run ID: its name, the beginning of it that no other run has, or `last` for the newest.",
    examples: &[("omk cost show last", "The newest run.")],
};

const COST_EXPLAIN: CommandSpec = CommandSpec {
    command: CostExplain,
    name: "cost explain",
    positionals: "ID",
    completes: Completes::Nothing,
    at_most: 1,
    summary: "show the arithmetic of what a run cost",
    doc: "Shows line by line how the amount of the run ID was made: tokens of a kind, times their rate. The rates are those \
that were in force then, with their source; what is not known is said with the reason. ID is as in `omk cost show`.",
    examples: &[("omk cost explain last", "The newest run.")],
};

const COST_CHECK: CommandSpec = CommandSpec {
    command: CostCheck,
    name: "cost check",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "fail when a budget is spent: a gate for scripts",
    doc: "Holds the ledger against the budgets of {--max-usd}, else of OMK_BUDGET. It prints nothing and ends with 0 while \
all hold; otherwise the exit code is 5 and the message says limit, spent and reserved. What runs that are open can cost \
at most is reserved; what a subscription paid for does not count.",
    examples: &[
        (
            "omk cost check --max-usd 5/day",
            "Exit code 5 when today's runs cost more than 5 USD.",
        ),
        (
            "omk cost check --max-usd 40/month --tag team=infra || exit",
            "A gate before a job, for the runs of one label.",
        ),
    ],
};

const COST_RECOVER: CommandSpec = CommandSpec {
    command: CostRecover,
    name: "cost recover",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "settle what killed runs left open",
    doc: "Looks at every open run whose process is gone. Where an agent kept a log of the session, what stands there is \
taken over, and the run is settled if the log has it to its end. Otherwise, and always over HTTP, it is marked unknown, \
with what was known as the least and its worst case as the most. Running it twice changes nothing.",
    examples: &[
        ("omk cost recover --dry-run", "What it would do."),
        ("omk cost recover", "Settles them."),
    ],
};

const COST_IMPORT: CommandSpec = CommandSpec {
    command: CostImport,
    name: "cost import",
    positionals: "AGENT",
    completes: Completes::Nothing,
    at_most: 1,
    summary: "read what an agent's own sessions used",
    doc: "Reads the logs that interactive sessions of AGENT left, and adds a run for each turn that used something. The one \
AGENT there is today is `kimi`: Kimi Code below KIMI_CODE_HOME (~/.kimi-code) and kimi-cli below KIMI_SHARE_DIR (~/.kimi). \
Sub-agents are in, each call once; turns that omk ran itself are not, since the ledger has them. Running it again adds what \
is new and nothing twice.\n\n\
A turn is priced by the model that its log names; kimi-cli's logs name none, so {--model} says which it was, or the turn \
has no price. What the Kimi Code plan paid for is marked, and never added to money. A turn under way waits for the next import.",
    examples: &[
        ("omk cost import kimi --dry-run", "What there is to read."),
        (
            "omk cost import kimi",
            "From here on one report shows all Kimi spending.",
        ),
    ],
};

const COST_EXPORT: CommandSpec = CommandSpec {
    command: CostExport,
    name: "cost export",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "write the ledger for other programs",
    doc: "Writes the runs of the ledger as {--format} says. jsonl has a whole record on each line, csv the main columns, and \
openmetrics the sums of runs that are over, for the textfile collector of the Prometheus node exporter: what is counted \
there only rises, unless `omk cost clear` removes something.",
    examples: &[
        (
            "omk cost export --format csv --since 2026-11 > november.csv",
            "A month for a spreadsheet.",
        ),
        (
            "omk cost export --format openmetrics -o /var/lib/node_exporter/omk.prom",
            "Sums for a metrics system; the file is replaced in one step.",
        ),
    ],
};

const COST_PUSH: CommandSpec = CommandSpec {
    command: CostPush,
    name: "cost push",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "send runs to an OpenTelemetry collector",
    doc: "Sends every run that is over and was not sent there before, as a span with the attributes of the GenAI semantic \
conventions, over OTLP/HTTP with JSON. What arrived is remembered beside the ledger for each address. A collector that is \
busy is asked again, as it wishes or with growing waits; then the exit code is 75, and the next push goes on where this \
one ended. A span's ids are made from the run's name, so one that is sent twice can be told.",
    examples: &[(
        "omk cost push --otlp http://collector.example:4318",
        "Sends what is new.",
    )],
};

const COST_CLEAR: CommandSpec = CommandSpec {
    command: CostClear,
    name: "cost clear",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "remove old runs from the ledger",
    doc: "Removes the runs that began before {--before}, after it has said how many and what they cost, and was told to: on \
the terminal, or by {--yes}. Open runs stay. What is removed is gone; `omk cost export` writes it down first. Turns of an \
agent's sessions come back with the next `omk cost import`, as long as the agent keeps its logs.",
    examples: &[
        (
            "omk cost clear --before 2026-01-01",
            "Asks, then removes last year.",
        ),
        (
            "omk cost clear --before 365d --yes --json",
            "The same from a script, and what was removed as JSON.",
        ),
    ],
};

const COST_PATH: CommandSpec = CommandSpec {
    command: CostPath,
    name: "cost path",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "print where the ledger is",
    doc: "Prints the directory of the ledger, whether it is there or not.",
    examples: &[("omk cost path", "The directory, for a backup, say.")],
};

const MODELS: CommandSpec = CommandSpec {
    command: Models,
    name: "models",
    positionals: "[NAME]",
    completes: Completes::Models,
    at_most: 1,
    summary: "list models, windows, vocabularies and rates",
    doc: "Lists the models that omk knows: provider, context window, vocabulary, the rates for input, cached input, \
writing to the cache and output in USD per 1M tokens, and the date of the rates. An indented line has the rates for \
prompts above a size. ~ marks a vocabulary that is only the nearest, - what is not known, and plan what a flat fee \
pays for. With {--json} each row also says where its rates come from.\n\n\
With NAME only models whose name, or provider/name, contains it are listed; a retired one when it is named in full.\n\n\
A model that is not listed has no price, and omk never takes that of a similar name: give {--price}, or a \
{--price-file}.",
    examples: &[
        ("omk models", "Every current model."),
        (
            "omk models kimi --all",
            "Every Kimi model, retired ones too.",
        ),
        (
            "omk models --json",
            "What is in force and where it came from, as JSON.",
        ),
    ],
};

const MODELS_UPDATE: CommandSpec = CommandSpec {
    command: ModelsUpdate,
    name: "models update",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "fetch current rates from models.dev",
    doc: "Fetches a list of models and rates into the config directory. The list is checked as a whole before it \
replaces the previous one; on any error nothing changes. From then on its rates are used instead of those built in; a \
{--price-file} still overrides both. Deleting the file models.dev.json undoes it.",
    examples: &[
        ("omk models update", "Fetches from models.dev."),
        (
            "omk models update --url https://mirror.example/api.json",
            "Fetches the same format from elsewhere.",
        ),
    ],
};

const COMPLETIONS: CommandSpec = CommandSpec {
    command: Completions,
    name: "completions",
    positionals: "SHELL",
    completes: Completes::Shells,
    at_most: 1,
    summary: "print a completion script for bash, zsh or fish",
    doc: "Prints a script that teaches SHELL (bash, zsh or fish) to complete the commands, flags and values of omk.",
    examples: &[
        (
            "omk completions bash > ~/.local/share/bash-completion/completions/omk",
            "For bash, from the next shell on.",
        ),
        (
            "omk completions zsh > ~/.zfunc/_omk",
            "For zsh, when ~/.zfunc is in $fpath.",
        ),
        (
            "omk completions fish > ~/.config/fish/completions/omk.fish",
            "For fish.",
        ),
    ],
};

const HELP: CommandSpec = CommandSpec {
    command: Help,
    name: "help",
    positionals: "[COMMAND]",
    completes: Completes::Commands,
    at_most: 2,
    summary: "explain omk, or one command in full",
    doc: "Prints the full help of COMMAND, or of omk as a whole. It is the same text that {--help} prints.",
    examples: &[
        ("omk help estimate", "Every flag of omk estimate."),
        ("omk help", "omk as a whole."),
    ],
};

/// Every flag, in the order of the documentation.
pub(crate) const FLAGS: &[Flag] = &[
    Flag {
        long: "model",
        short: Some('m'),
        takes: Takes::Value("NAME[,NAME...]", |low, v| {
            low.model.extend(value::names(v)?);
            Ok(())
        }),
        on: &[Prompt, Plan, Estimate, PlanShow, PlanDiff],
        doc: "Model to ask, or to count and price for. It decides the vocabulary, the context window and the rates; an \
agent takes the names of its own configuration. `omk estimate` compares several, cheapest first. The default is kimi-k3; \
an agent's own where that is asked. `omk models` lists the others.",
        completes: Completes::Models,
        repeats: true,
        variables: &["OMK_MODEL", "KIMI_MODEL_NAME"],
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "output-tokens",
        short: Some('o'),
        takes: Takes::Value("N", |low, v| {
            low.output_tokens = Some(value::count(v)?);
            Ok(())
        }),
        doc: "Tokens the answer will have. They are priced at the output rate and share the context window with the \
input. A whole number, k and M allowed (4k is 4000); the default is 0, the price of the input alone.",
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "cached",
        takes: Takes::Value("N|P%", |low, v| {
            low.cached = Some(value::cached(v)?);
            Ok(())
        }),
        doc: "Part of the input the service has cached. A count of tokens, or a share of the input such as 80%; it is \
priced at the rate for cached input. The default is 0.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "price",
        takes: Takes::Value("IN,CACHED,OUT", |low, v| {
            low.price = Some(value::price(v)?);
            Ok(())
        }),
        on: &[Prompt, Plan, Estimate],
        doc: "Rates to use instead of the known ones. Amounts in USD per 1M tokens for input, cached input and output, \
such as 0.6,0.15,2.5. With a - in the middle the cached rate is unknown, and cached tokens are priced in full. They hold \
for one model only.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "price-file",
        takes: Takes::Value("FILE", |low, v| {
            low.price_file.push(PathBuf::from(v));
            Ok(())
        }),
        on: &[
            Prompt,
            Plan,
            Estimate,
            PlanShow,
            PlanDiff,
            Models,
            CostRecover,
            CostImport,
        ],
        doc: "JSON file of rates that override the known ones. Of several files the last that has a model wins. In \
the config file a relative name counts from the directory of that file.",
        completes: Completes::Files,
        repeats: true,
        variables: &["OMK_PRICE_FILE"],
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "strict-prices",
        takes: Takes::Nothing(|low| low.strict_prices = true),
        on: &[Prompt, Plan, Estimate],
        doc: "Fail when a model has no known price. The exit code is 78; without this flag its price is unknown (null \
in JSON) and a warning says so.",
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "max-usd",
        takes: Takes::Value("USD", |low, v| {
            low.max_usd = Some(value::usd(v)?);
            Ok(())
        }),
        on: &[Prompt, Plan, Estimate],
        doc: "Fail when the price is above this. A decimal from 0 to 1000000 in USD, exact to 12 decimals; the exit \
code is 5. Of several models none may be above it; where the price is not known the limit cannot be checked, and the \
exit code is 78. A prompt is refused before it is sent when it alone costs more; over HTTP the answer is limited to what \
is left, and an agent's turn is cancelled when its usage passes it. There is no limit by default.",
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "max-tokens",
        takes: Takes::Value("N", |low, v| {
            low.max_tokens = Some(value::count(v)?);
            Ok(())
        }),
        on: &[Prompt, Plan, Estimate],
        doc: "Fail when there are more tokens than this. A whole number, k and M allowed; the exit code is 5. For an \
estimate those of the input count, for a prompt those of all its calls, answers included, as with {--max-usd}. There is no \
limit by default.",
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
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
        ..ON_PROMPT
    },
    Flag {
        long: "kimi",
        takes: Takes::Value("PATH", |low, v| {
            low.ask.kimi = Some(PathBuf::from(v));
            Ok(())
        }),
        doc: "The agent to ask. The default is the `kimi` on the path; given, it is asked even where there is a key.",
        completes: Completes::Files,
        variables: &["OMK_KIMI"],
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "system",
        takes: Takes::Value("TEXT", |low, v| {
            low.ask.system = Some(value::name(v)?);
            Ok(())
        }),
        on: &[Prompt],
        doc: "Instructions for the model. Agents have their own and no place for others, so there it goes before the \
question.",
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "file",
        short: Some('f'),
        takes: Takes::Value("FILE", |low, v| {
            low.ask.file.push(PathBuf::from(v));
            Ok(())
        }),
        on: &[Prompt],
        doc: "Text file that belongs to the question. It follows the TEXT as a block with its name, in the order given.",
        completes: Completes::Files,
        repeats: true,
        ..ON_PROMPT
    },
    Flag {
        long: "image",
        takes: Takes::Value("FILE", |low, v| {
            low.ask.image.push(PathBuf::from(v));
            Ok(())
        }),
        on: &[Prompt],
        doc: "Picture that belongs to the question. PNG, JPEG, GIF or WebP, up to 100 MB. Its tokens are not counted \
before it is sent.",
        completes: Completes::Files,
        repeats: true,
        ..ON_PROMPT
    },
    Flag {
        long: "allow",
        takes: Takes::Value("TOOL[(PATTERN)][,...]", |low, v| {
            low.ask.allow.extend(value::rules(v)?);
            Ok(())
        }),
        on: &[Prompt],
        doc: "Tools that an agent may use without asking anyone. Names are the agent's, where Shell and Bash, and Read, \
Write and Edit with or without File, mean the same; `all` is every tool. A pattern narrows it to commands, or to \
files, where * stands for anything: Shell(git *) allows one plain git command, never one with ; & | < > $ or a line break \
in it. The default is none: what is asked for is denied, the answer is printed, and the exit code is 6. Reading files in \
its directory is something that agents do not ask for. Within a git work tree Kimi Code does not ask before it changes a file \
either; it has to hand the file to omk, which writes what is allowed.",
        repeats: true,
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "thinking",
        takes: Takes::Value("HOW", |low, v| {
            let kinds = Thinking::ALL.map(|kind| (kind.name(), kind));
            low.ask.thinking = Some(value::choice(v, &kinds)?);
            Ok(())
        }),
        doc: "Whether, or how hard, the model reasons before it answers. What a model has no setting for is left out \
with a warning. The default is the model's own.",
        choices: &["on", "off", "low", "high", "max"],
        completes: Completes::Choices,
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "temperature",
        takes: Takes::Value("T", |low, v| {
            low.ask.temperature = Some(value::temperature(v)?);
            Ok(())
        }),
        on: &[Prompt],
        doc: "How varied the answer may be. A decimal from 0 to 2; left out with a warning where the model or the agent \
takes none, as the Kimi models since K2.5. The default is the service's.",
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "max-output-tokens",
        takes: Takes::Value("N", |low, v| {
            low.ask.max_output_tokens = Some(value::positive_count(v)?);
            Ok(())
        }),
        doc: "The longest answer, reasoning included. A whole number, k and M allowed; an answer that it cuts is printed \
and the exit code is 3. Agents take no such limit. The default is the service's.",
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "session",
        takes: Takes::Value("NAME", |low, v| {
            low.ask.conversation = Some(value::session_name(v)?);
            Ok(())
        }),
        on: &[Prompt],
        doc: "Conversation to go on with, or to begin. An agent keeps it by this name for the directory it is begun in; \
letters, digits, `.`, `_` and `-`. A service keeps none, so over HTTP this is an error. By default each run begins a new one.",
        ..ON_PROMPT
    },
    Flag {
        long: "schema",
        takes: Takes::Value("FILE", |low, v| {
            low.ask.schema = Some(PathBuf::from(v));
            Ok(())
        }),
        on: &[Prompt],
        doc: "JSON Schema that the answer must satisfy. The answer is checked; one that fails is sent back once with what \
is wrong, and if that does not help the exit code is 4. Keywords that cannot be checked are named in a warning.",
        completes: Completes::Files,
        ..ON_PROMPT
    },
    Flag {
        long: "retries",
        takes: Takes::Value("N", |low, v| {
            low.ask.retries = Some(value::retries(v)?);
            Ok(())
        }),
        doc: "How often to try again what may pass. 0 to 100; the default is 4. The wait doubles from half a second, and \
the service's own wish comes first; no wait goes past {--deadline}. An agent makes these attempts itself.",
        variables: &["OMK_RETRIES"],
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "idle-timeout",
        takes: Takes::Value("DURATION", |low, v| {
            low.ask.idle_timeout = Some(value::positive_duration(v)?);
            Ok(())
        }),
        doc: "Give an attempt up when nothing is heard for this long. Such as 30s or 5m; the default is 2m. While a tool \
runs an agent may be silent.",
        variables: &["OMK_IDLE_TIMEOUT"],
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "show-thinking",
        takes: Takes::Nothing(|low| low.ask.show_thinking = true),
        doc: "Print the reasoning to standard error as it comes. By default only the answer is printed.",
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "stream-json",
        takes: Takes::Nothing(|low| low.ask.stream_json = true),
        on: &[Prompt],
        doc: "Print one JSON document a line for each event. The last line is the result, as with {--json}.",
        ..ON_PROMPT
    },
    Flag {
        long: "record",
        takes: Takes::Value("FILE", |low, v| {
            low.ask.record = Some(PathBuf::from(v));
            Ok(())
        }),
        doc: "Write the conversation with the peer to FILE. For {--replay}; the key is not in it, the prompt is.",
        completes: Completes::Files,
        ..ON_PROMPT
    },
    Flag {
        long: "replay",
        takes: Takes::Value("FILE", |low, v| {
            low.ask.replay = Some(PathBuf::from(v));
            Ok(())
        }),
        doc: "Play a recorded conversation instead of asking anyone. A request that differs from the recorded one is an \
error; nothing is written to the ledger. `example` is a recording that comes with omk.",
        completes: Completes::Files,
        ..ON_PROMPT
    },
    Flag {
        long: "name",
        takes: Takes::Value("NAME", |low, v| {
            low.ask.name = Some(value::name(v)?);
            Ok(())
        }),
        doc: "Name of the run in the ledger. By default it has none; text of a prompt never stands there.",
        ..ON_PROMPT
    },
    Flag {
        long: "tag",
        takes: Takes::Value("KEY=VALUE[,...]", |low, v| {
            low.ask.tag.extend(value::tags(v)?);
            Ok(())
        }),
        doc: "Label of the run in the ledger. Reports and budgets can be by tag; those of OMK_TAGS are added, and in a CI \
system the repository, workflow and run.",
        repeats: true,
        configurable: true,
        ..ON_PROMPT
    },
    Flag {
        long: "count",
        takes: Takes::Nothing(|low| low.count = true),
        doc: "Print the number of tokens and nothing else. Of several inputs it is the sum.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "ids",
        takes: Takes::Nothing(|low| low.ids = true),
        doc: "Print the token ids of the one input. They stand on one line each, in order.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "vocabulary",
        takes: Takes::Value("NAME", |low, v| {
            low.vocabulary = Some(value::choice(v, &Vocabulary::ALL.map(|v| (v.name(), v)))?);
            Ok(())
        }),
        doc: "Count with this vocabulary, whatever the model. The default is the model's own.",
        choices: &[
            "kimi",
            "o200k_base",
            "cl100k_base",
            "p50k_base",
            "r50k_base",
        ],
        completes: Completes::Choices,
        ..ON_ESTIMATE
    },
    Flag {
        long: "special",
        takes: Takes::Nothing(|low| low.special = true),
        doc: "Count special tokens in the input as such. By default what looks like one, such as <|endoftext|>, is \
ordinary text, which is how services treat it.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "exact",
        takes: Takes::Nothing(|low| low.exact = true),
        doc: "Ask the service for its own count and show the difference. This sends the text to the service \
({--base-url}) and needs a key in MOONSHOT_API_KEY or KIMI_API_KEY; counting is free of charge.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "base-url",
        takes: Takes::Value("URL", |low, v| {
            low.base_url = Some(value::url(v)?);
            Ok(())
        }),
        on: &[Prompt, Plan, Estimate],
        doc: "Address of the service to ask. It ends before /chat/completions, as in https://host/v1; an estimate asks it \
only with {--exact}. The default is https://api.moonshot.ai/v1. Given to a prompt, it is asked over HTTP.",
        variables: &["OMK_BASE_URL", "KIMI_BASE_URL"],
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "lossy",
        takes: Takes::Nothing(|low| low.lossy = true),
        on: &[Prompt, Plan, Estimate],
        doc: "Replace bad bytes and NUL by U+FFFD. Without it a byte that is not UTF-8, or a NUL, is an error that \
names its offset (exit code 65).",
        ..ON_ESTIMATE
    },
    Flag {
        long: "no-stdin",
        takes: Takes::Nothing(|low| low.no_stdin = true),
        on: &[Prompt, Plan, Estimate],
        doc: "Never read standard input. With nothing else to read this is an error, and so is `-`.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "session",
        takes: Takes::Value("KIND", |low, v| {
            let kinds = [
                ("team", Session::Team),
                ("autopilot", Session::Autopilot),
                ("ralph", Session::Ralph),
            ];
            low.session = Some(value::choice(v, &kinds)?);
            Ok(())
        }),
        doc: "Estimate a working session instead of a text. A heuristic from its length and size; {--duration}, \
{--workers}, {--iterations}, {--role} and {--tier} describe it.",
        choices: &["team", "autopilot", "ralph"],
        completes: Completes::Choices,
        ..ON_ESTIMATE
    },
    Flag {
        long: "duration",
        takes: Takes::Value("DURATION", |low, v| {
            low.duration = Some(value::duration(v)?);
            Ok(())
        }),
        doc: "Length of the session. Numbers with ms, s, m or h, such as 30m or 1h30m, up to 1000h; needed with \
{--session}.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "workers",
        takes: Takes::Value("N", |low, v| {
            low.workers = Some(value::positive_count(v)?);
            Ok(())
        }),
        doc: "Workers of the session at the same time. At least 1, which is the default.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "iterations",
        takes: Takes::Value("N", |low, v| {
            low.iterations = Some(value::count(v)?);
            Ok(())
        }),
        doc: "Rounds of rework in the session. Each adds 30% to the tokens; the default is 1 for a team, else 0.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "role",
        takes: Takes::Value("NAME", |low, v| {
            low.role = Some(value::name(v)?);
            Ok(())
        }),
        doc: "Role of the workers of the session, such as architect. It chooses the price class unless {--tier} does.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "tier",
        takes: Takes::Value("CLASS", |low, v| {
            let tiers = PricingTier::ALL.map(|tier| (tier.name(), tier));
            low.tier = Some(value::choice(v, &tiers)?);
            Ok(())
        }),
        doc: "Price class of the session's model. They stand for 2, 8 and 24 USD per 1M output tokens, and a quarter of \
it for input.",
        choices: &["budget", "standard", "premium"],
        completes: Completes::Choices,
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "by",
        takes: Takes::Value("WHAT", |low, v| {
            low.cost.by = Some(value::choice(v, &By::ALL.map(|by| (by.name(), by)))?);
            Ok(())
        }),
        on: &[CostReport],
        doc: "What to add up by. The default is day; command is prompt, plan or import, and tag is the label that {--tag} \
names, or every label there is.",
        choices: &[
            "day",
            "month",
            "model",
            "tag",
            "command",
            "transport",
            "peer",
        ],
        completes: Completes::Choices,
        ..ON_ESTIMATE
    },
    Flag {
        long: "tag",
        takes: Takes::Value("KEY[=VALUE][,...]", |low, v| {
            low.cost.tags.extend(value::tag_filters(v)?);
            Ok(())
        }),
        on: &[Estimate, CostReport, CostList, CostCheck, CostExport],
        doc: "Only runs with this label. With KEY alone any value will do, and `omk cost report --by tag` adds up by its \
values; of several labels a run must have all. An estimate looks at the answers of such runs alone.",
        repeats: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "since",
        takes: Takes::Value("WHEN", |low, v| {
            low.cost.since = Some(value::when(v)?);
            Ok(())
        }),
        on: &[CostReport, CostList, CostExport],
        doc: "Only runs that began then or later. 7d or 2w for so many whole days in UTC up to today, 12h for so long ago, a \
date such as 2026-11-01, a month such as 2026-11, or 2026-11-01T08:00:00Z. By default from the first one on.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "until",
        takes: Takes::Value("WHEN", |low, v| {
            low.cost.until = Some(value::when(v)?);
            Ok(())
        }),
        on: &[CostReport, CostList, CostExport],
        doc: "Only runs that began before the end of this. A date or a month is in to its end; otherwise as {--since}. By \
default to the last one.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "csv",
        takes: Takes::Nothing(|low| low.cost.csv = true),
        on: &[CostReport],
        doc: "Print CSV. With a line of titles and exact amounts; columns are only ever added, at the end.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "status",
        takes: Takes::Value("STATUS[,...]", |low, v| {
            low.cost.status.extend(value::statuses(v)?);
            Ok(())
        }),
        on: &[CostList],
        doc: "Only runs of this status. open, settled, failed, interrupted or unknown; several with commas between them.",
        repeats: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "limit",
        takes: Takes::Value("N", |low, v| {
            low.cost.limit = Some(value::positive_count(v)?);
            Ok(())
        }),
        on: &[CostList],
        doc: "List at most so many runs. At least 1; the default is 20, and what is left out is counted.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "max-usd",
        takes: Takes::Value("BUDGET[,...]", |low, v| {
            low.cost.budgets.extend(value::budgets(v)?);
            Ok(())
        }),
        on: &[CostCheck],
        doc: "Fail when runs cost more than this together. An amount in USD over a day, a week from Monday, or a month, in \
UTC: 5/day, 40/month, tag:ci=1/day; several with commas between them. The default is OMK_BUDGET.",
        repeats: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "dry-run",
        takes: Takes::Nothing(|low| low.cost.dry_run = true),
        on: &[CostRecover, CostImport, CostClear],
        doc: "Say what would be done and change nothing.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "all-hosts",
        takes: Takes::Nothing(|low| low.cost.all_hosts = true),
        on: &[CostRecover],
        doc: "Take runs of other machines for dead too. Whether they are cannot be seen from here, so by default they are \
left alone; be sure that none is at work.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "model",
        takes: Takes::Value("NAME", |low, v| {
            low.cost.model = Some(value::name(v)?);
            Ok(())
        }),
        on: &[CostImport],
        doc: "Model of the sessions whose logs do not say it. Those of kimi-cli never do; without this their turns have no price.",
        completes: Completes::Models,
        ..ON_ESTIMATE
    },
    Flag {
        long: "format",
        takes: Takes::Value("FORMAT", |low, v| {
            low.cost.format = Some(value::choice(v, &ExportFormat::ALL)?);
            Ok(())
        }),
        on: &[CostExport],
        doc: "What to write. The default is jsonl.",
        choices: &["jsonl", "csv", "openmetrics"],
        completes: Completes::Choices,
        ..ON_ESTIMATE
    },
    Flag {
        long: "output",
        short: Some('o'),
        takes: Takes::Value("FILE", |low, v| {
            low.cost.output = Some(PathBuf::from(v));
            Ok(())
        }),
        on: &[CostExport],
        doc: "Write to FILE instead of standard output. It is replaced in one step, so a reader sees the old one or the new one.",
        completes: Completes::Files,
        ..ON_ESTIMATE
    },
    Flag {
        long: "otlp",
        takes: Takes::Value("URL", |low, v| {
            low.cost.otlp = Some(value::url(v)?);
            Ok(())
        }),
        on: &[CostPush],
        doc: "Address of the collector. /v1/traces is added where it does not end so; the default is \
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it stands, else OTEL_EXPORTER_OTLP_ENDPOINT.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "before",
        takes: Takes::Value("WHEN", |low, v| {
            low.cost.before = Some(value::when(v)?);
            Ok(())
        }),
        on: &[CostClear],
        doc: "Remove runs that began before the beginning of this. Needed; written as {--since}.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "yes",
        short: Some('y'),
        takes: Takes::Nothing(|low| low.cost.yes = true),
        on: &[CostClear],
        doc: "Do not ask. Without it, and without a terminal to ask on, nothing is removed and the exit code is 2.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "all",
        short: Some('a'),
        takes: Takes::Nothing(|low| low.all = true),
        on: &[Models],
        doc: "List retired models too. The default is those that can be asked today.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "url",
        takes: Takes::Value("URL", |low, v| {
            low.url = Some(value::url(v)?);
            Ok(())
        }),
        on: &[ModelsUpdate],
        doc: "Address of the list of models. It must serve the format of the default, https://models.dev/api.json.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "format",
        takes: Takes::Value("FORM", |low, v| {
            low.format = Some(value::choice(v, &value::FORMATS)?);
            Ok(())
        }),
        on: &[Plan, PlanCheck, PlanShow],
        doc: "Form to print in. `omk plan check` knows text, json, github (annotations of a workflow run) and sarif (2.1.0); \
`omk plan` and `omk plan show` know text, json, markdown, mermaid, dot and csv. The default is text.",
        choices: &[
            "text", "json", "markdown", "mermaid", "dot", "csv", "github", "sarif",
        ],
        completes: Completes::Choices,
        ..ON_ESTIMATE
    },
    Flag {
        long: "strict",
        takes: Takes::Nothing(|low| low.strict = true),
        on: &[Plan, PlanCheck],
        doc: "Let a warning fail the run as an error does. The exit code is then 4 for any finding, and for a goal that is \
vague.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "context",
        takes: Takes::Value("FILE", |low, v| {
            low.plan.context.push(PathBuf::from(v));
            Ok(())
        }),
        on: &[Plan],
        doc: "Text file that the model is told of beside the goal. Such as a specification or notes on the code; it stands in \
the request as data, with its name.",
        completes: Completes::Files,
        repeats: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "no-context",
        takes: Takes::Nothing(|low| low.plan.no_context = true),
        on: &[Plan],
        doc: "Tell the model nothing but the goal. By default it is told of the directory: languages, number of files, names \
at the top, tests, CI and build system, never what stands in a file; what .gitignore covers is not looked at.",
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "dry-run",
        takes: Takes::Nothing(|low| low.plan.dry_run = true),
        on: &[Plan],
        doc: "Print what would be sent, and send nothing. Its tokens and price follow on standard error; no network is used.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "classify-only",
        takes: Takes::Nothing(|low| low.plan.classify_only = true),
        on: &[Plan],
        doc: "Only say what kind of goal it is. With how sure the model is and why; a request of a few hundred tokens.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "separately",
        takes: Takes::Nothing(|low| low.plan.separately = true),
        on: &[Plan],
        doc: "Ask for each part of the plan by itself. Four requests for kind, slices, criteria and complexity instead of one, \
for models that do less well with everything at once.",
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "deadline",
        takes: Takes::Value("DURATION", |low, v| {
            low.deadline = Some(value::positive_duration(v)?);
            Ok(())
        }),
        on: &[
            Prompt,
            Plan,
            Estimate,
            PlanCheck,
            PlanShow,
            PlanDiff,
            ModelsUpdate,
            CostPush,
        ],
        doc: "End the run when it takes longer than this. It covers every wait, that for input too; the exit code is \
124 and the message names the wait. Such as 500ms, 30s, 2m or 1h, up to 1000h. By default input is waited for without \
a bound, the network for 10s, a prompt takes 15m at most and a push 5m. Looking up the name of a host is the one wait that may outlast it.",
        variables: &["OMK_DEADLINE"],
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "json",
        takes: Takes::Nothing(|low| low.json = true),
        on: &[
            Prompt,
            Plan,
            Estimate,
            PlanCheck,
            PlanShow,
            PlanDiff,
            Models,
            ModelsUpdate,
            CostReport,
            CostList,
            CostShow,
            CostExplain,
            CostCheck,
            CostRecover,
            CostImport,
            CostPush,
            CostClear,
            CostPath,
        ],
        doc: "Print one JSON document. It is printed on failure too, with the reason under `error`; fields are only \
ever added to it.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "quiet",
        short: Some('q'),
        takes: Takes::Nothing(|low| low.quiet = true),
        on: &[
            Prompt,
            Plan,
            Estimate,
            PlanCheck,
            PlanShow,
            PlanDiff,
            CostReport,
            CostList,
            CostShow,
            CostExplain,
            CostCheck,
            CostRecover,
            CostImport,
            CostExport,
            CostPush,
            CostClear,
        ],
        doc: "Print no warnings. Errors are still printed, and warnings still stand in JSON.",
        configurable: true,
        ..ON_ESTIMATE
    },
    Flag {
        long: "help",
        short: Some('h'),
        takes: Takes::Help,
        on: EVERYWHERE,
        doc: "Print help. -h prints a summary, --help everything.",
        ..ON_ESTIMATE
    },
    Flag {
        long: "version",
        short: Some('V'),
        takes: Takes::Version,
        on: EVERYWHERE,
        doc: "Print the version.",
        ..ON_ESTIMATE
    },
];

/// What most rows share, so that a row shows only what is its own.
const ON_ESTIMATE: Flag = Flag {
    long: "",
    short: None,
    takes: Takes::Help,
    on: &[Estimate],
    doc: "",
    choices: &[],
    completes: Completes::Nothing,
    repeats: false,
    variables: &[],
    configurable: false,
};

/// What the rows of a question to a model share, whether a prompt or a goal.
const ON_PROMPT: Flag = Flag {
    on: &[Prompt, Plan],
    ..ON_ESTIMATE
};

const EVERYWHERE: &[Command] = &[
    Prompt,
    Plan,
    Estimate,
    PlanCheck,
    PlanShow,
    PlanDiff,
    CostReport,
    CostList,
    CostShow,
    CostExplain,
    CostCheck,
    CostRecover,
    CostImport,
    CostExport,
    CostPush,
    CostClear,
    CostPath,
    Models,
    ModelsUpdate,
    Completions,
    Help,
];

/// A variable that belongs to no flag.
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does; the same markup as in the documentation of a flag.
    pub(crate) doc: &'static str,
}

/// The variables that belong to no flag; those that do stand in [`FLAGS`].
pub(crate) const VARIABLES: &[Variable] = &[
    Variable {
        name: "MOONSHOT_API_KEY",
        doc: "Key of the service that `omk prompt` asks over HTTP, and {--exact}.",
    },
    Variable {
        name: "KIMI_API_KEY",
        doc: "The same, when MOONSHOT_API_KEY is not set.",
    },
    Variable {
        name: "OMK_LEDGER",
        doc: "Directory of the ledger; omk/ledger in the state directory when it is not set.",
    },
    Variable {
        name: "XDG_STATE_HOME",
        doc: "Directory of the state directory omk; $HOME/.local/state when it is not set.",
    },
    Variable {
        name: "XDG_CACHE_HOME",
        doc: "Directory of the cache directory omk, where it is kept which agent a `kimi` is; $HOME/.cache when it is not set.",
    },
    Variable {
        name: "OMK_BUDGET",
        doc: "Budgets over all runs, such as 5/day,40/month,tag:ci=1/day in USD; days, weeks and months are those of UTC. \
What a prompt may cost at most is reserved before it is sent, and one that has no room is refused with exit code 5. Without \
{--max-output-tokens} it is then limited to 32768.",
    },
    Variable {
        name: "OMK_TAGS",
        doc: "Labels of every run in the ledger, such as team=infra,env=prod; {--tag} adds to them.",
    },
    Variable {
        name: "KIMI_CODE_HOME",
        doc: "Directory in which Kimi Code keeps its sessions; $HOME/.kimi-code when it is not set.",
    },
    Variable {
        name: "KIMI_SHARE_DIR",
        doc: "Directory in which kimi-cli keeps its sessions; $HOME/.kimi when it is not set.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_ENDPOINT",
        doc: "Address of the collector for `omk cost push` without {--otlp}; /v1/traces is added.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        doc: "The same, taken as it stands; it comes first.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_HEADERS",
        doc: "Headers for the collector, such as authorization=Bearer%20KEY; several with commas between them, values \
percent-encoded. They are never shown.",
    },
    Variable {
        name: "HTTPS_PROXY",
        doc: "Address of the proxy for https, such as http://proxy.example:3128. Of this and the next three the name in \
lower case is looked at first.",
    },
    Variable {
        name: "HTTP_PROXY",
        doc: "The same for http.",
    },
    Variable {
        name: "ALL_PROXY",
        doc: "The same for both, where they have none of their own.",
    },
    Variable {
        name: "NO_PROXY",
        doc: "Hosts to reach without a proxy, separated by commas. A name covers its subdomains, * covers everything.",
    },
    Variable {
        name: "SSL_CERT_FILE",
        doc: "PEM file of root certificates to trust instead of the built-in ones, for instance behind an inspecting \
proxy.",
    },
    Variable {
        name: "OMK_CONFIG",
        doc: "Config file to read instead of the default; it must exist.",
    },
    Variable {
        name: "XDG_CONFIG_HOME",
        doc: "Directory of the config directory omk; $HOME/.config when it is not set.",
    },
    Variable {
        name: "NO_COLOR",
        doc: "When set, messages are not coloured. They never are unless standard error is a terminal.",
    },
];

/// The flag of that long name: the command's own where there is one, since two commands may have different flags of one
/// name.
pub(crate) fn flag(long: &str, command: Option<Command>) -> Option<&'static Flag> {
    let mut named = FLAGS.iter().filter(|flag| flag.long == long);
    let first = named.clone().next()?;
    let own = command.and_then(|command| named.find(|flag| flag.is_on(command)));
    Some(own.unwrap_or(first))
}

/// The same by its letter.
pub(crate) fn short(letter: char, command: Option<Command>) -> Option<&'static Flag> {
    let mut named = FLAGS.iter().filter(|flag| flag.short == Some(letter));
    let first = named.clone().next()?;
    let own = command.and_then(|command| named.find(|flag| flag.is_on(command)));
    Some(own.unwrap_or(first))
}

/// The flags of a command, in the order of the documentation.
pub(crate) fn flags_of(command: Command) -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(move |flag| flag.is_on(command))
}

/// The flags that a config file may set.
pub(crate) fn configurable() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(|flag| flag.configurable)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsStr;

    use super::*;
    use crate::cli::flags::LowArgs;

    fn is_word(name: &str) -> bool {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
    }

    #[test]
    fn longs_and_shorts_are_well_formed_and_unique() {
        let (mut longs, mut shorts) = (BTreeSet::new(), BTreeSet::new());
        for flag in FLAGS {
            assert!(is_word(flag.long), "--{}", flag.long);
            for command in flag.on {
                let name = (command.spec().name, flag.long);
                assert!(longs.insert(name), "--{} stands twice", flag.long);
            }
            for (short, command) in flag
                .short
                .iter()
                .flat_map(|s| flag.on.iter().map(move |on| (s, on)))
            {
                let name = (command.spec().name, *short);
                assert!(
                    short.is_ascii_alphabetic() && shorts.insert(name),
                    "-{short}"
                );
            }
        }
    }

    #[test]
    fn every_flag_belongs_to_a_command_once_and_is_documented() {
        for flag in FLAGS {
            let name = flag.long;
            assert!(!flag.on.is_empty(), "--{name}");
            for command in COMMANDS {
                assert!(
                    flag.on.iter().filter(|on| **on == command.command).count() <= 1,
                    "--{name}"
                );
            }
            assert!(
                flag.doc.ends_with('.') && !flag.doc.contains('\n') && !flag.doc.contains("  "),
                "--{name}"
            );
        }
    }

    #[test]
    fn every_value_flag_names_its_value_and_no_switch_has_choices() {
        for flag in FLAGS {
            match flag.value_name() {
                Some(name) => assert!(
                    name.starts_with(|c: char| c.is_ascii_uppercase()),
                    "--{}",
                    flag.long
                ),
                None => assert!(
                    flag.choices.is_empty() && !flag.repeats && flag.variables.is_empty(),
                    "--{} is a switch",
                    flag.long
                ),
            }
            assert_eq!(
                flag.choices.is_empty(),
                flag.completes != Completes::Choices,
                "--{}",
                flag.long
            );
        }
    }

    #[test]
    fn every_choice_is_accepted_and_nothing_else() {
        for flag in FLAGS.iter().filter(|flag| !flag.choices.is_empty()) {
            let Takes::Value(_, set) = flag.takes else {
                panic!("--{}", flag.long)
            };
            for choice in flag.choices {
                assert_eq!(
                    set(&mut LowArgs::default(), OsStr::new(choice)),
                    Ok(()),
                    "--{} {choice}",
                    flag.long
                );
            }
            let error = set(&mut LowArgs::default(), OsStr::new("nonsense")).unwrap_err();
            assert_eq!(
                error,
                format!("`nonsense` is none of {}", flag.choices.join(", "))
            );
        }
    }

    #[test]
    fn every_setter_changes_the_arguments() {
        let samples = [
            "1",
            "1%",
            "1,2,3",
            "30s",
            "https://host/v1",
            "text",
            "a=b",
            "5/day",
            "open",
        ];
        for flag in FLAGS {
            let mut low = LowArgs::default();
            match flag.takes {
                Takes::Nothing(set) => set(&mut low),
                Takes::Value(_, set) => {
                    let accepted = |sample: &&str| set(&mut low, OsStr::new(sample)).is_ok();
                    assert!(
                        samples.iter().chain(flag.choices).any(accepted),
                        "--{}",
                        flag.long
                    );
                }
                Takes::Help | Takes::Version => continue,
            }
            assert_ne!(low, LowArgs::default(), "--{} sets nothing", flag.long);
        }
    }

    #[test]
    fn variables_are_unique_and_named_after_the_flag() {
        let mut seen = BTreeSet::new();
        for flag in FLAGS {
            for variable in flag.variables {
                assert!(seen.insert(*variable), "{variable}");
            }
            if let Some(own) = flag.variables.first() {
                assert_eq!(
                    *own,
                    format!("OMK_{}", flag.long.to_uppercase().replace('-', "_"))
                );
            }
        }
        for variable in VARIABLES {
            assert!(seen.insert(variable.name), "{}", variable.name);
        }
    }

    #[test]
    fn commands_are_unique_and_each_has_a_summary_and_an_example() {
        let mut names = BTreeSet::new();
        for spec in COMMANDS {
            assert!(
                spec.name.split(' ').all(is_word) && names.insert(spec.name),
                "{}",
                spec.name
            );
            assert!(spec.command.spec().name == spec.name, "{}", spec.name);
            assert!(
                !spec.summary.ends_with('.') && spec.summary.len() <= 60,
                "{}",
                spec.name
            );
            assert!(!spec.examples.is_empty(), "{}", spec.name);
            assert_eq!(
                spec.positionals.is_empty(),
                spec.at_most == 0,
                "{}",
                spec.name
            );
            for (line, doc) in spec.examples {
                assert!(
                    line.contains(&format!("omk {}", spec.name)) && doc.ends_with('.'),
                    "{line}"
                );
            }
        }
    }
}
