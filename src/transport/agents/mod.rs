//! The agents that omk drives. Everything that is particular to one of them is in its file here.
//!
//! A [`Dialect`] is data and functions: how the program is recognised and started, where it keeps its sessions, how its
//! session log reads, what its tools are called. An agent that speaks Wire or ACP and keeps a log takes one new file and a
//! line in [`ALL`]. Nothing here runs a program. Do not run a bare `kimi`: without arguments, the last kimi-cli
//! downloads and runs an installer.

pub mod config;
pub mod kimi_agent;
pub mod kimi_cli;
pub mod kimi_code;

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

pub use crate::transport::agents::config::Models;
pub use crate::transport::agents::kimi_agent::KIMI_AGENT;
pub use crate::transport::agents::kimi_cli::KIMI_CLI;
pub use crate::transport::agents::kimi_code::KIMI_CODE;

use crate::runtime::file;
use crate::tokens::usage::Contradiction;
use crate::transport::agent::fit;
use crate::transport::fact::Fact;
use crate::transport::session_dir::find_session;

/// Bytes of an index that are read, from its end: the last line about a session counts.
const MAX_INDEX: u64 = 4 * 1024 * 1024;
/// The largest configuration that is read.
const MAX_CONFIG: u64 = 1024 * 1024;

/// Every agent.
pub static ALL: [&Dialect; 3] = [&KIMI_CLI, &KIMI_AGENT, &KIMI_CODE];

/// The protocols that agents speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Kimi Wire, [`crate::transport::wire`].
    Wire,
    /// The Agent Client Protocol, [`crate::transport::acp`].
    Acp,
}

/// Finds a session's directory in an agent's index.
type FindSession = fn(&[u8], &str) -> Option<PathBuf>;

/// What is particular to one agent.
#[derive(Debug)]
pub struct Dialect {
    /// Its name.
    pub name: &'static str,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// The variable that names its home.
    pub home_variable: &'static str,
    /// Its home below the user's, where the variable is not set.
    pub home_directory: &'static str,
    /// The main agent's log in a session's directory.
    pub main_log: &'static str,
    /// Whether it can be given more directories to work in.
    pub takes_directories: bool,
    /// How it reads files: whether it asks.
    pub reads: &'static str,
    /// The variable that replaces the id of whichever model is configured.
    pub model_variable: Option<&'static str>,
    /// How names of models that a subscription pays for begin in its configuration.
    pub plan_prefix: Option<&'static str>,
    /// The version, from the first line of `--version`; `None` for another program's.
    version: fn(&str) -> Option<Result<String, Refusal>>,
    /// The arguments for these settings.
    arguments: fn(&Settings<'_>) -> Vec<String>,
    /// The variables for these settings.
    environment: fn(&Settings<'_>) -> Vec<(&'static str, String)>,
    /// A file in its home that knows the sessions' directories, and how to find one in it.
    index: Option<(&'static str, FindSession)>,
    /// What a line of a session's log says.
    fact: fn(&[u8]) -> Option<Fact>,
    /// Its names for tools that every agent has, with the common name.
    tools: &'static [(&'static str, &'static str)],
}

impl PartialEq for Dialect {
    fn eq(&self, other: &Dialect) -> bool {
        self.name == other.name
    }
}

impl Eq for Dialect {}

/// What is asked of an agent when it is started. What its protocol sets later is not in here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings<'a> {
    /// The session to begin or go on with.
    pub session: Option<&'a str>,
    /// The model, by its name in the agent's configuration.
    pub model: Option<&'a str>,
    /// Whether the model reasons first.
    pub thinking: Option<bool>,
    /// Attempts at a call of the model, where the agent makes them itself.
    pub attempts: Option<u32>,
    /// The most steps of a turn.
    pub max_steps: Option<u32>,
    /// Directories to work in beside the work directory, absolute.
    pub directories: &'a [String],
}

impl Dialect {
    /// The agent of that name.
    pub fn of_name(name: &str) -> Option<&'static Dialect> {
        ALL.into_iter().find(|dialect| dialect.name == name)
    }

    /// The arguments that make it speak its protocol under these settings.
    pub fn arguments(&self, settings: &Settings<'_>) -> Vec<String> {
        (self.arguments)(settings)
    }

    /// The variables for these settings. A user's own values go before them.
    pub fn environment(&self, settings: &Settings<'_>) -> Vec<(&'static str, String)> {
        (self.environment)(settings)
    }

    /// Its home, by the variables of the environment; `None` where neither its own nor `HOME` is set.
    pub fn home(&self, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        let named = variable(self.home_variable).map(PathBuf::from);
        named.or_else(|| Some(Path::new(&variable("HOME")?).join(self.home_directory)))
    }

    /// The directory of a session in a home: by the agent's index, or else by looking for the id.
    ///
    /// # Errors
    ///
    /// The index or the directory is there and cannot be read.
    pub fn session_directory(&self, home: &Path, session: &str) -> io::Result<Option<PathBuf>> {
        if let Some((name, find)) = self.index {
            let index = match file::read_end(&home.join(name), MAX_INDEX) {
                Ok(index) => index,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            };
            if let Some(directory) = find(&index, session) {
                return Ok(Some(directory));
            }
        }
        find_session(&home.join("sessions"), session)
    }

    /// The file in a home that holds its configuration.
    pub fn config_file(&self, home: &Path) -> PathBuf {
        home.join("config.toml")
    }

    /// The models that it is configured with; none where that cannot be read.
    pub fn models(&self, home: &Path) -> Models {
        let bytes = file::read_regular(&self.config_file(home), MAX_CONFIG);
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Models::parse(&text.unwrap_or_default())
    }

    /// What a line of a session's log says; `None` for lines that say nothing of interest, broken ones among them.
    pub fn fact(&self, line: &[u8]) -> Option<Fact> {
        (self.fact)(line)
    }
}

/// One name for tools that agents name differently, in lower case.
pub fn common_tool(name: &str) -> String {
    let mut known = ALL.into_iter().flat_map(|dialect| dialect.tools);
    let found = known.find(|(own, _)| own.eq_ignore_ascii_case(name));
    found.map_or_else(
        || name.to_ascii_lowercase(),
        |(_, common)| common.to_string(),
    )
}

/// An agent that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Which one.
    pub dialect: &'static Dialect,
    /// Its version, as it says.
    pub version: String,
}

/// Why a program cannot be talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A kimi-cli from 1.52 on: it prints a notice whatever it is asked.
    Stub {
        /// Its version.
        version: String,
    },
    /// None of the agents.
    Unknown {
        /// What it said, escaped.
        said: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Stub { version } => write!(
                f,
                "kimi-cli {version} is a stub that only says it is no longer maintained; install Kimi Code \
                 (npm install -g @moonshot-ai/kimi-code) or kimi-cli 1.51.0"
            ),
            Refusal::Unknown { said } if said.is_empty() => {
                f.write_str("--version says nothing, so this is no Kimi agent")
            }
            Refusal::Unknown { said } => write!(f, "--version says {said:?}: no known Kimi agent"),
        }
    }
}

impl Error for Refusal {}

/// The agent whose `--version` printed this, by the first line alone: the stub prints a notice after it.
///
/// # Errors
///
/// The program is a stub, or none that is known.
pub fn from_version(output: &str) -> Result<Agent, Refusal> {
    let line = output.lines().next().unwrap_or_default().trim();
    let found = ALL
        .into_iter()
        .find_map(|dialect| Some((dialect, (dialect.version)(line)?)));
    match found {
        Some((dialect, version)) => version.map(|version| Agent { dialect, version }),
        None => Err(Refusal::Unknown { said: fit(line) }),
    }
}

/// A line with a usage that is not JSON, such as one that was written while the disk was full: a call was made all the same.
fn torn_usage(line: &[u8], name: &str) -> Option<Fact> {
    let text = String::from_utf8_lossy(line);
    if !text.contains(&format!("\"{name}\"")) {
        return None;
    }
    let reason = format!("a line of the log with {name} is not JSON");
    let raw = Value::String(text.into_owned());
    Some(Fact::Used {
        usage: None,
        alias: None,
        own: false,
        context: None,
        contradiction: Some(Contradiction::new(&[reason], &raw)),
    })
}

/// Major and minor of `1.51.0`; a suffix of the patch is fine, anything else is no version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.splitn(3, '.');
    let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let is_patch = patch.starts_with(|c: char| c.is_ascii_digit()) && !patch.contains(' ');
    is_patch.then_some((number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_version_identifies_the_agent() {
        let table = [
            ("kimi, version 1.51.0\n", "kimi-cli 1.51.0"),
            ("kimi, version 0.9.12\r\n", "kimi-cli 0.9.12"),
            ("kimi-agent, version 1.8.0\n", "kimi-agent 1.8.0"),
            ("2.1.0\n", "Kimi Code 2.1.0"),
            ("10.0.0-beta.1\n", "Kimi Code 10.0.0-beta.1"),
        ];
        for (output, expected) in table {
            let agent = from_version(output).unwrap();
            assert_eq!(
                format!("{} {}", agent.dialect.name, agent.version),
                expected
            );
            assert_eq!(Dialect::of_name(agent.dialect.name), Some(agent.dialect));
        }
    }

    #[test]
    fn the_stub_is_refused_with_what_to_do() {
        for version in ["1.52.0", "1.60.2", "2.0.0"] {
            let output = format!("kimi, version {version}\nkimi-cli is no longer maintained\n");
            let error = from_version(&output).unwrap_err().to_string();
            assert!(error.starts_with(&format!("kimi-cli {version} is a stub")));
            assert!(error.contains("npm install"), "{error}");
        }
    }

    #[test]
    fn other_programs_are_refused_with_what_they_said() {
        for said in [
            "",
            "kimi",
            "v2.1.0",
            "2.1",
            "1.51.0",
            "kimi, version x.y.z",
            "kimi, version +1.5.0",
            "GNU bash, version 5.2",
            "2.1.0 is out",
        ] {
            assert!(
                matches!(from_version(said), Err(Refusal::Unknown { .. })),
                "{said}"
            );
        }
        let error = from_version("\x1b[31m").unwrap_err().to_string();
        assert!(!error.contains('\x1b'), "{error}");
    }

    #[test]
    fn settings_become_arguments_and_variables() {
        let settings = Settings {
            session: Some("s"),
            model: Some("m"),
            thinking: Some(false),
            attempts: Some(3),
            max_steps: Some(5),
            directories: &["/d".to_string()],
        };
        let wire = [
            "--wire",
            "--session",
            "s",
            "--max-retries-per-step",
            "3",
            "--max-steps-per-turn",
            "5",
            "--model",
            "m",
            "--add-dir",
            "/d",
            "--no-thinking",
        ];
        assert_eq!(KIMI_CLI.arguments(&settings), wire);
        let fewer = Settings {
            directories: &[],
            ..settings
        };
        assert_eq!(KIMI_AGENT.arguments(&fewer), KIMI_CLI.arguments(&fewer));
        assert_eq!(KIMI_CLI.arguments(&Settings::default()), ["--wire"]);
        // Over ACP the rest is set by the protocol.
        assert_eq!(KIMI_CODE.arguments(&settings), ["acp"]);
        let variables = KIMI_CODE.environment(&settings);
        let attempts = ("KIMI_LOOP_MAX_ATTEMPTS_PER_STEP", "3".to_string());
        assert!(variables.contains(&attempts), "{variables:?}");
        let steps = ("KIMI_LOOP_MAX_STEPS_PER_TURN", "5".to_string());
        assert!(variables.contains(&steps), "{variables:?}");
        for dialect in ALL {
            let no_telemetry = ("KIMI_DISABLE_TELEMETRY", "1".to_string());
            assert!(
                dialect
                    .environment(&Settings::default())
                    .contains(&no_telemetry)
            );
        }
    }

    #[test]
    fn a_home_is_named_or_below_the_users() {
        let home = |dialect: &Dialect, variables: &[(&str, &str)]| {
            let variables = variables.to_vec();
            dialect.home(move |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).into())
            })
        };
        for (dialect, below, variable) in [
            (&KIMI_CLI, "/h/.kimi", "KIMI_SHARE_DIR"),
            (&KIMI_AGENT, "/h/.kimi", "KIMI_SHARE_DIR"),
            (&KIMI_CODE, "/h/.kimi-code", "KIMI_CODE_HOME"),
        ] {
            assert_eq!(home(dialect, &[("HOME", "/h")]), Some(PathBuf::from(below)));
            let both = [("HOME", "/h"), (variable, "/k")];
            assert_eq!(home(dialect, &both), Some(PathBuf::from("/k")));
            assert_eq!(home(dialect, &[]), None);
        }
    }

    #[test]
    fn tools_have_one_name_whatever_the_agent() {
        for (name, common) in [
            ("Shell", "bash"),
            ("Bash", "bash"),
            ("ReadFile", "read"),
            ("WriteFile", "write"),
            ("StrReplaceFile", "edit"),
            ("Edit", "edit"),
            ("FetchURL", "fetchurl"),
        ] {
            assert_eq!(common_tool(name), common);
        }
    }
}
