//! Texts about the program as a whole, and the variables that belong to no flag.

/// The program in one line.
pub(crate) const SUMMARY: &str =
    "run Kimi from scripts and CI, with exact costs up front, a hard budget and one ledger";

/// The day of the release, for the manual.
#[cfg(test)]
pub(crate) const RELEASED: &str = "2026-11-21";

/// The program in a few paragraphs, separated by an empty line.
pub(crate) const DESCRIPTION: &str = "omk asks a Kimi model from a script, a pipe or a CI step. It talks to the service over \
HTTP, or to the Kimi agent that is installed. Before it sends anything it counts the tokens, offline and exactly, and checks \
the worst case against every limit. Afterwards it records what the run cost.\n\n\
The result goes to standard output, and nothing else does; messages go to standard error. The exit code says how it went. With \
{--json} standard output is exactly one JSON document, on failure too.\n\n\
A setting comes from its flag, else from its variable, else from the config file, else from its default.";

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
        doc: "Key for the service, used by `omk prompt`, `omk plan` and {--exact}.",
    },
    Variable {
        name: "KIMI_API_KEY",
        doc: "The same, when MOONSHOT_API_KEY is not set.",
    },
    Variable {
        name: "OMK_LEDGER",
        doc: "Directory of the ledger. The default is omk/ledger in the state directory.",
    },
    Variable {
        name: "XDG_STATE_HOME",
        doc: "Base of the state directory omk. The default is $HOME/.local/state.",
    },
    Variable {
        name: "XDG_CACHE_HOME",
        doc: "Base of the cache directory omk, which remembers which agent a `kimi` is. The default is $HOME/.cache.",
    },
    Variable {
        name: "OMK_BUDGET",
        doc: "Budgets over all runs in US dollars, such as 5/day,40/month,tag:ci=1/day. Days, weeks and months are in \
UTC. A run reserves its worst case before it sends anything; one that does not fit is refused with exit code 5. \
Without {--max-output-tokens} its answer is limited to 32768 tokens. An agent decides how often it calls the model. \
So a run of an agent reserves what its next call can cost: the conversation so far and 32768 tokens more, and an answer of \
32768. It reserves that again before each call, and the turn is cancelled when a call does not fit. Only a call that costs more \
than was reserved can pass a budget, by the difference. A call that the agent begins before it hears of the cancellation counts \
as one of unknown cost.",
    },
    Variable {
        name: "OMK_FLEET",
        doc: "Store in which several machines share one budget and one ledger: etcd+https://HOST:2379/NAME, git+origin \
or git+URL, with #NAME for one of several in a repository. See omk-fleet(7).",
    },
    Variable {
        name: "OMK_FLEET_OFFLINE",
        doc: "What to do when the store of the fleet cannot be reached. deny, the default, sends nothing and exits \
with 75. allow sends, labels the run fleet=offline, and delivers it later.",
    },
    Variable {
        name: "OMK_FLEET_USER",
        doc: "User of the fleet's etcd, with OMK_FLEET_PASSWORD.",
    },
    Variable {
        name: "OMK_FLEET_PASSWORD",
        doc: "Password of that user. It is never printed.",
    },
    Variable {
        name: "OMK_FLEET_CA",
        doc: "PEM file of root certificates for the fleet's etcd. The default is SSL_CERT_FILE.",
    },
    Variable {
        name: "OMK_FLEET_CERT",
        doc: "PEM file of the client certificate for the fleet's etcd, with OMK_FLEET_KEY.",
    },
    Variable {
        name: "OMK_FLEET_KEY",
        doc: "PEM file of that certificate's private key.",
    },
    Variable {
        name: "OMK_TAGS",
        doc: "Labels of every run, such as team=infra,env=prod. {--tag} adds to them.",
    },
    Variable {
        name: "KIMI_CODE_HOME",
        doc: "Directory with the sessions of Kimi Code. The default is $HOME/.kimi-code.",
    },
    Variable {
        name: "KIMI_SHARE_DIR",
        doc: "Directory with the sessions of kimi-cli. The default is $HOME/.kimi.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_ENDPOINT",
        doc: "Address of the collector for `omk cost push`. /v1/traces is added.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        doc: "The same, used unchanged. It takes precedence.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_HEADERS",
        doc: "Headers for the collector, such as authorization=Bearer%20KEY, separated by commas and percent-encoded. \
They are never printed.",
    },
    Variable {
        name: "HTTPS_PROXY",
        doc: "Proxy for https, such as http://proxy.example:3128. For this and the next three variables the lower-case \
name takes precedence.",
    },
    Variable {
        name: "HTTP_PROXY",
        doc: "The same for http.",
    },
    Variable {
        name: "ALL_PROXY",
        doc: "The same for both.",
    },
    Variable {
        name: "NO_PROXY",
        doc: "Hosts to reach without a proxy, separated by commas. A name covers its subdomains, * covers everything.",
    },
    Variable {
        name: "SSL_CERT_FILE",
        doc: "PEM file of root certificates to use instead of the built-in ones.",
    },
    Variable {
        name: "OMK_CONFIG",
        doc: "Config file to read instead of the default one. It must exist.",
    },
    Variable {
        name: "XDG_CONFIG_HOME",
        doc: "Base of the config directory omk. The default is $HOME/.config.",
    },
    Variable {
        name: "NO_COLOR",
        doc: "When set, messages have no colors. Without it they have colors on a terminal.",
    },
];
