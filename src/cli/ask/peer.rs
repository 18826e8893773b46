//! The peer: a service over HTTP, or the agent that is installed.
//!
//! A key or an address means the service, otherwise the `kimi` on the path is asked what it is. That costs up to 0.7 s, so
//! the verdict is kept by the file's real path, size and time of change. Refuses to run a bare `kimi`, whose last release
//! in Python answers that with an installer.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::cli::ask::node;
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::store::store;
use crate::runtime::secret::Secret;
use crate::runtime::text::escape_os;
use crate::transport::Transport;
use crate::transport::acp::Acp;
use crate::transport::agent::Signal;
use crate::transport::agents::{self, Agent, Dialect, Protocol, Refusal};
use crate::transport::child::{Child, Program};
use crate::transport::link::{Link, LinkError, Received};
use crate::transport::tape;
use crate::transport::wire::Wire;

/// The service for accounts outside mainland China.
pub(crate) const BASE_URL: &str = "https://api.moonshot.ai/v1";
/// The service of the Kimi Code plan, whose keys no other host takes.
const PLAN_URL: &str = "https://api.kimi.com/coding/v1";
/// What the plan's keys begin with.
pub(crate) const PLAN_KEY: &str = "sk-kimi-";
/// The variables that hold a key, in order of precedence.
const KEYS: [&str; 2] = ["MOONSHOT_API_KEY", "KIMI_API_KEY"];
/// The longest that `--version` is waited for: measured up to 0.7 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than any table of a handful of agents.
const LARGEST_CACHE: u64 = 1 << 20;

/// The service, agent or recording that answers.
#[derive(Debug)]
pub(crate) enum Peer {
    /// A service.
    Http {
        /// Its address, which ends before `/chat/completions`.
        base_url: String,
        /// The key to it; a service of one's own may need none.
        key: Option<Secret>,
    },
    /// An agent.
    Agent {
        /// What it is.
        agent: Agent,
        /// The program, links followed.
        path: PathBuf,
    },
    /// A recorded conversation.
    Tape {
        /// How it was held.
        transport: Transport,
        /// What the agent is.
        name: String,
        /// The model that was asked.
        model: String,
    },
}

impl Peer {
    /// The one on a tape.
    pub(crate) fn of_tape(header: &tape::Header) -> Peer {
        let name = match &header.peer {
            Some(agent) => format!("a recording of {} {}", agent.kind, agent.version),
            None => "a recording".to_string(),
        };
        Peer::Tape {
            transport: header.transport,
            name,
            model: header.model.clone(),
        }
    }

    /// Whether it has tools and sessions.
    pub(crate) fn is_agent(&self) -> bool {
        self.transport().is_agent()
    }

    /// The transport's name.
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Peer::Http { .. } => Transport::Http,
            Peer::Tape { transport, .. } => *transport,
            Peer::Agent { agent, .. } => match agent.dialect.protocol {
                Protocol::Wire => Transport::Wire,
                Protocol::Acp => Transport::Acp,
            },
        }
    }

    /// Who it is, for messages and the ledger: the host, or the agent with its version.
    pub(crate) fn name(&self) -> String {
        match self {
            Peer::Http { base_url, .. } => host(base_url).to_string(),
            Peer::Tape { name, .. } => name.clone(),
            Peer::Agent { agent, .. } => format!("{} {}", agent.dialect.name, agent.version),
        }
    }
}

/// The host of an address, with its port.
pub(crate) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

/// The flags that choose the peer.
pub(crate) struct Wanted<'a> {
    pub(crate) transport: Option<Transport>,
    pub(crate) kimi: Option<&'a Path>,
    /// The address, and whether it alone decides for HTTP: the ecosystem's variable does not, since agents read it too.
    pub(crate) base_url: Option<(&'a str, bool)>,
}

/// Where a question would go.
pub(crate) enum Destination {
    /// A service.
    Http { base_url: String },
    /// An agent, which was not started: what it is, is not known.
    Agent { path: String },
    /// A recording.
    Tape { name: String },
}

/// Decides where a question would go, and starts nothing.
///
/// # Errors
///
/// As for [`choose`], but for what only the agent itself can tell.
pub(crate) fn destination(wanted: &Wanted<'_>, env: &Env) -> Result<Destination, Failure> {
    if !goes_over_http(wanted, env)? {
        let path = escape_os(&program(wanted, env)?);
        return Ok(Destination::Agent { path });
    }
    match service(wanted.base_url.map(|(url, _)| url), env)? {
        Peer::Http { base_url, .. } => Ok(Destination::Http { base_url }),
        other => Ok(Destination::Tape { name: other.name() }),
    }
}

fn goes_over_http(wanted: &Wanted<'_>, env: &Env) -> Result<bool, Failure> {
    Ok(match wanted.transport {
        Some(transport) => !transport.is_agent(),
        None => {
            wanted.kimi.is_none()
                && (wanted.base_url.is_some_and(|(_, decides)| decides) || key(env)?.is_some())
        }
    })
}

/// The address that a key is for where none is given.
pub(crate) fn default_url(key: &Secret) -> &'static str {
    match key.expose().starts_with(PLAN_KEY) {
        true => PLAN_URL,
        false => BASE_URL,
    }
}

/// Chooses the peer.
///
/// # Errors
///
/// Exit 69 when there is no agent or the wrong one, 77 without a key for a service that needs one.
pub(crate) fn choose(wanted: &Wanted<'_>, deadline: Deadline, env: &Env) -> Result<Peer, Failure> {
    if goes_over_http(wanted, env)? {
        return service(wanted.base_url.map(|(url, _)| url), env);
    }
    let path = program(wanted, env)?;
    let agent = identify(&path, deadline, env)?;
    let protocol = match wanted.transport {
        Some(Transport::Wire) => Some(Protocol::Wire),
        Some(Transport::Acp) => Some(Protocol::Acp),
        _ => None,
    };
    if protocol.is_some_and(|protocol| protocol != agent.dialect.protocol) {
        let detail = format!(
            "{} is {} {}, which does not speak {}",
            escape_os(&path),
            agent.dialect.name,
            agent.version,
            wanted.transport.map_or("auto", Transport::name)
        );
        return Err(Failure::new(Exit::NoService, "no agent", detail)
            .hint("leave --transport out, or name another program with --kimi PATH"));
    }
    Ok(Peer::Agent { agent, path })
}

fn service(base_url: Option<&str>, env: &Env) -> Result<Peer, Failure> {
    let key = key(env)?;
    let base_url = match (base_url, &key) {
        (Some(url), _) => url,
        (None, Some(key)) => default_url(key),
        (None, None) => {
            let detail = "the service needs a key, and none is set";
            return Err(Failure::new(Exit::Permission, "authentication", detail).hint(
                "set MOONSHOT_API_KEY; a service of your own without a key is named by --base-url",
            ));
        }
    };
    Ok(Peer::Http {
        base_url: base_url.to_string(),
        key,
    })
}

/// The key in the environment.
///
/// # Errors
///
/// Exit 78 for one that cannot be sent.
pub(crate) fn key(env: &Env) -> Result<Option<Secret>, Failure> {
    let found = KEYS
        .into_iter()
        .find_map(|name| Some((name, env.variable(name)?)));
    let Some((name, value)) = found else {
        return Ok(None);
    };
    match value.into_string() {
        Ok(key) => Ok(Some(Secret::new(key.trim()))),
        Err(_) => Err(Failure::new(
            Exit::Config,
            "configuration",
            format!("{name} is not UTF-8"),
        )),
    }
}

/// The program that was named, or the `kimi` on the path, links followed.
fn program(wanted: &Wanted<'_>, env: &Env) -> Result<PathBuf, Failure> {
    let real = |path: &Path| fs::canonicalize(path);
    if let Some(path) = wanted.kimi {
        return real(path).map_err(|error| {
            let detail = format!("`{}`: {error}", escape_os(path));
            Failure::new(Exit::NoService, "no agent", detail)
                .hint("--kimi and OMK_KIMI name a program that is there")
        });
    }
    let path = env.variable("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join("kimi"))
        .find(|path| is_program(path));
    match found {
        Some(path) => real(&path).map_err(|error| {
            let detail = format!("`{}`: {error}", escape_os(&path));
            Failure::new(Exit::NoService, "no agent", detail)
        }),
        None => {
            let detail = "no API key in the environment and no `kimi` on the path";
            Err(Failure::new(Exit::NoService, "no agent", detail)
                .hint("set MOONSHOT_API_KEY to ask the service over HTTP")
                .hint("or install Kimi Code: npm install -g @moonshot-ai/kimi-code, then run `kimi` once to log in")
                .hint("or name an agent with --kimi PATH; `omk prompt --replay example` needs none"))
        }
    }
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// What a program was found to be.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Verdict {
    path: PathBuf,
    size: u64,
    /// Nanoseconds since 1970.
    changed: u64,
    kind: String,
    version: String,
}

/// Where it is kept what programs were found to be.
pub(crate) fn verdicts(env: &Env) -> Option<PathBuf> {
    let directory = env.base_directory("XDG_CACHE_HOME", ".cache")?;
    Some(directory.join("agents.json"))
}

/// Forgets what a program was found to be: it did not start as that. A script of the same name, size and time may start
/// another agent by now.
pub(crate) fn forget(verdicts: &Path, program: &Path) {
    let mut known = read_cache(verdicts);
    known.retain(|verdict| verdict.path != program);
    // As below.
    let _ = serde_json::to_vec(&known).map(|bytes| store(verdicts, &bytes));
}

/// What a program is as it says now, whatever it was found to be before.
///
/// # Errors
///
/// As for [`choose`].
pub(crate) fn identify_again(path: &Path, deadline: Deadline, env: &Env) -> Result<Agent, Failure> {
    if let Some(verdicts) = verdicts(env) {
        forget(&verdicts, path);
    }
    identify(path, deadline, env)
}

/// The agents that are there: the one that was named, and those on the path by the names that they have; links followed.
pub(crate) fn installed(named: Option<&Path>, env: &Env) -> Vec<PathBuf> {
    let path = env.variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .flat_map(|directory| ["kimi", "kimi-agent", "kimi-code"].map(|name| directory.join(name)));
    let mut found = Vec::new();
    for path in named.map(Path::to_path_buf).into_iter().chain(on_path) {
        if let Some(real) = fs::canonicalize(&path).ok().filter(|path| is_program(path))
            && !found.contains(&real)
        {
            found.push(real);
        }
    }
    found
}

/// Starts an agent, and waits until it answers in its protocol. Nothing is asked of its model.
///
/// # Errors
///
/// Why it does not.
pub(crate) fn start(agent: &Agent, path: &Path, deadline: Deadline) -> Result<Duration, String> {
    let started = Instant::now();
    let settings = agents::Settings::default();
    let mut program = Program::new(path);
    let arguments = agent.dialect.arguments(&settings);
    program.args = arguments.into_iter().map(Into::into).collect();
    let variables = agent.dialect.environment(&settings).into_iter();
    program.env = variables
        .map(|(name, value)| (name.into(), Some(value.into())))
        .collect();
    let (mut wire, mut acp) = (Wire::default(), Acp::default());
    let hello = match agent.dialect.protocol {
        Protocol::Wire => wire.start(),
        Protocol::Acp => acp.start(),
    };
    let mut child = Child::spawn(&program).map_err(|error| error.to_string())?;
    let until = started + deadline.left().map_or(PATIENCE, |left| left.min(PATIENCE));
    let mut said = match child.send(&hello, until) {
        // Why stands in its last words.
        Ok(()) | Err(LinkError::Closed) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    while said.is_ok() {
        let signals = match child.receive(until) {
            Ok(Received::Line(line)) => match agent.dialect.protocol {
                Protocol::Wire => wire.receive(line),
                Protocol::Acp => acp.receive(line),
            },
            Ok(Received::Timeout) => {
                said = Err(format!("no answer in {:.0?}", started.elapsed()));
                break;
            }
            Ok(Received::Eof) => {
                said = Err(child.stop(Duration::from_secs(1)).to_string());
                break;
            }
            Err(error) => {
                said = Err(error.to_string());
                break;
            }
        };
        match signals.first() {
            Some(Signal::Failed(failure)) => said = Err(failure.message.clone()),
            // What it says next would begin a session.
            Some(Signal::Ready(_) | Signal::Send(_)) => break,
            _ => {}
        }
    }
    let took = started.elapsed();
    child.stop(Duration::from_secs(2));
    said.map(|()| took)
}

/// What a program is: as it was found to be before, or as it says now.
fn identify(path: &Path, deadline: Deadline, env: &Env) -> Result<Agent, Failure> {
    let stamp = stamp(path);
    let cache = verdicts(env);
    let mut verdicts = cache.as_deref().map(read_cache).unwrap_or_default();
    let known = verdicts
        .iter()
        .find(|verdict| verdict.path == path && stamp == Some((verdict.size, verdict.changed)));
    if let Some(known) = known
        && let Some(dialect) = Dialect::of_name(&known.kind)
    {
        return Ok(Agent {
            dialect,
            version: known.version.clone(),
        });
    }
    let agent = ask_version(path, deadline, env)?;
    if let (Some(cache), Some((size, changed))) = (&cache, stamp) {
        verdicts.retain(|verdict| verdict.path != path);
        verdicts.push(Verdict {
            path: path.to_path_buf(),
            size,
            changed,
            kind: agent.dialect.name.to_string(),
            version: agent.version.clone(),
        });
        // A cache that cannot be written costs the same time again, and nothing else.
        let _ = serde_json::to_vec(&verdicts).map(|bytes| store(cache, &bytes));
    }
    Ok(agent)
}

/// Size and time of change, which tell one version of a file from the next.
fn stamp(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((metadata.len(), u64::try_from(changed.as_nanos()).ok()?))
}

/// The verdicts of before. Whatever cannot be read is found out again.
fn read_cache(path: &Path) -> Vec<Verdict> {
    let mut bytes = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(LARGEST_CACHE).read_to_end(&mut bytes));
    match read {
        Ok(_) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// Runs `PROGRAM --version`.
///
/// # Errors
///
/// Exit 69 for a program that is no agent, or does not run.
pub(crate) fn ask_version(path: &Path, deadline: Deadline, env: &Env) -> Result<Agent, Failure> {
    let shown = escape_os(path);
    let mut program = Program::new(path);
    program.args = vec!["--version".into()];
    let failed = |error: LinkError| {
        Failure::new(
            Exit::NoService,
            "no agent",
            format!("{shown} --version: {error}"),
        )
        .hint("--kimi PATH names another program; --transport http needs none")
    };
    let mut child = Child::spawn(&program).map_err(failed)?;
    let patience = deadline.left().map_or(PATIENCE, |left| left.min(PATIENCE));
    let until = Instant::now() + patience;
    let said = match child.receive(until) {
        Ok(Received::Line(line)) => String::from_utf8_lossy(line).into_owned(),
        Ok(Received::Eof) => String::new(),
        Ok(Received::Timeout) => {
            // Nobody waits for what it may still do.
            child.stop(Duration::ZERO);
            deadline.check_nearly(&format!("asking {shown} for its version"))?;
            let detail = format!(
                "{shown} --version says nothing for {} s",
                patience.as_secs()
            );
            return Err(Failure::new(Exit::NoService, "no agent", detail)
                .hint("--kimi PATH names another program"));
        }
        Err(error) => return Err(failed(error)),
    };
    let exit = child.stop(Duration::from_secs(5));
    agents::from_version(&said).map_err(|refusal| {
        let search = env.variable("PATH").unwrap_or_default();
        if let Some(why) = node::problem(path, &search) {
            let detail = format!("{shown} does not start: {why}");
            return Failure::new(Exit::NoService, "no agent", detail)
                .hint("install a newer Node, or put it first on the path: npm install -g node");
        }
        let hint = match refusal {
            Refusal::Stub { .. } => "npm install -g @moonshot-ai/kimi-code",
            Refusal::Unknown { .. } => {
                "--kimi PATH names another program; --transport http needs none"
            }
        };
        let why = match said.is_empty() {
            true => format!(" ({exit})"),
            false => String::new(),
        };
        Failure::new(
            Exit::NoService,
            "no agent",
            format!("{shown}: {refusal}{why}"),
        )
        .hint(hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::env::tests::world;

    fn chosen(wanted: &Wanted<'_>, variables: &[(&str, &str)]) -> Result<Peer, Failure> {
        let deadline = Deadline::new(Instant::now(), None);
        choose(wanted, deadline, &world(variables, b"").0)
    }

    fn wanted(transport: Option<Transport>) -> Wanted<'static> {
        Wanted {
            transport,
            kimi: None,
            base_url: None,
        }
    }

    #[track_caller]
    fn address(wanted: &Wanted<'_>, variables: &[(&str, &str)]) -> (String, Option<String>) {
        match chosen(wanted, variables) {
            Ok(Peer::Http { base_url, key }) => (base_url, key.map(|key| key.expose().to_string())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_means_the_service_and_a_plans_key_the_plans_service() {
        let auto = wanted(None);
        let key = |key: &str| Some(key.to_string());
        assert_eq!(
            address(
                &auto,
                &[("KIMI_API_KEY", "sk-b"), ("MOONSHOT_API_KEY", "sk-a")]
            ),
            (BASE_URL.to_string(), key("sk-a"))
        );
        assert_eq!(
            address(&auto, &[("KIMI_API_KEY", "sk-kimi-x")]),
            (PLAN_URL.to_string(), key("sk-kimi-x"))
        );
    }

    #[test]
    fn an_address_of_ones_own_needs_no_key_but_the_ecosystems_does_not_decide() {
        let mut auto = wanted(None);
        auto.base_url = Some(("http://127.0.0.1:1/v1", true));
        assert_eq!(
            address(&auto, &[]),
            ("http://127.0.0.1:1/v1".to_string(), None)
        );
        auto.base_url = Some(("http://127.0.0.1:1/v1", false));
        assert_eq!(chosen(&auto, &[]).unwrap_err().exit, Exit::NoService);
        auto.transport = Some(Transport::Http);
        assert_eq!(address(&auto, &[]).0, "http://127.0.0.1:1/v1");
    }

    #[test]
    fn nobody_to_ask_says_what_to_install_or_set() {
        let failure = chosen(&wanted(None), &[("PATH", "/nonexistent")]).unwrap_err();
        assert_eq!(failure.exit, Exit::NoService);
        assert!(
            failure
                .hints
                .iter()
                .any(|hint| hint.contains("MOONSHOT_API_KEY"))
        );
        let failure = chosen(&wanted(Some(Transport::Http)), &[]).unwrap_err();
        assert_eq!(failure.exit, Exit::Permission);
        let mut named = wanted(None);
        named.kimi = Some(Path::new("/nonexistent/kimi"));
        // A program that was named is meant, whatever key there is.
        let failure = chosen(&named, &[("MOONSHOT_API_KEY", "sk-a")]).unwrap_err();
        assert_eq!(failure.exit, Exit::NoService);
    }

    #[test]
    fn a_host_is_shown_without_what_stands_around_it() {
        for (url, shown) in [
            ("https://api.moonshot.ai/v1", "api.moonshot.ai"),
            ("http://me:secret@127.0.0.1:80?key=1", "127.0.0.1:80"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(host(url), shown);
        }
    }
}
