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
        name: "OMK_FLEET",
        doc: "Store in which several machines keep one budget and one ledger: etcd+https://HOST:2379/NAME, git+origin or \
git+URL, with #NAME for one of several in a repository. See omk-fleet(7).",
    },
    Variable {
        name: "OMK_FLEET_OFFLINE",
        doc: "What happens when the fleet's store cannot be reached. deny, the default, sends nothing and ends with 75; allow \
sends, labels the run fleet=offline, and delivers it later.",
    },
    Variable {
        name: "OMK_FLEET_USER",
        doc: "User of the fleet's etcd, with OMK_FLEET_PASSWORD.",
    },
    Variable {
        name: "OMK_FLEET_PASSWORD",
        doc: "Password of that user. It is never shown.",
    },
    Variable {
        name: "OMK_FLEET_CA",
        doc: "PEM file of the root certificates of the fleet's etcd; SSL_CERT_FILE when it is not set.",
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
