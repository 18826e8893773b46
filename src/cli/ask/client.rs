//! The three clients as one, made from the flags.

use std::path::{Path, PathBuf};

use crate::cli::ask::AskArgs;
use crate::cli::ask::ledger::Meter;
use crate::cli::ask::peer::{self, Peer, Wanted};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::Thinking;
use crate::cli::network;
use crate::cli::store::store;
use crate::cost::fingerprint::fingerprint;
use crate::cost::record::SessionLogRef;
use crate::llm::client::{
    AcpLlmClient, HttpLlmClient, LlmClient, LlmClientConfig, Observer, Request, WireLlmClient,
};
use crate::llm::error::LlmError;
use crate::llm::retry::RetryPolicy;
use crate::llm::types::{LlmResponse, TokenBudget};
use crate::transport::acp::{Options, Session};
use crate::transport::child::Program;
use crate::transport::detect::{Agent, Kind, Protocol};
use crate::transport::session_log;

/// A client of any transport.
pub(super) enum Client {
    Http(Box<HttpLlmClient>),
    Wire(Box<WireLlmClient>, Books),
    Acp(Box<AcpLlmClient>, Books),
}

/// What an agent keeps on disk about its sessions, and what omk keeps about them.
pub(super) struct Books {
    kind: Kind,
    /// The agent's home.
    home: PathBuf,
    /// The session, where it is known before the agent runs.
    session: Option<String>,
    /// Where the session's name and id are to be remembered.
    remember: Option<PathBuf>,
}

/// Whom to ask.
///
/// # Errors
///
/// See [`peer::choose`].
pub(super) fn peer(args: &AskArgs, env: &Env) -> Result<Peer, Failure> {
    let wanted = Wanted {
        transport: args.transport,
        kimi: args.kimi.as_deref(),
        base_url: args
            .base_url
            .as_ref()
            .map(|(url, decides)| (url.as_str(), *decides)),
    };
    peer::choose(&wanted, args.deadline, env)
}

impl Client {
    /// The client for this peer. `run` is the run's name, which is a session's where nobody named one.
    ///
    /// # Errors
    ///
    /// A variable or a remembered session that cannot be used.
    pub(super) fn new(
        args: &AskArgs,
        peer: Peer,
        mut config: LlmClientConfig,
        run: &str,
        env: &Env,
    ) -> Result<Client, Failure> {
        let (agent, path) = match peer {
            Peer::Http { base_url, key } => {
                let http = network::http(env, args.deadline)?;
                let client = HttpLlmClient::new(config, &base_url, key, http);
                return Ok(Client::Http(Box::new(client)));
            }
            Peer::Agent { agent, path } => (agent, path),
        };
        let attempts = config.retry.max_retries.saturating_add(1);
        // The agent tries again by itself; ours would multiply with its own.
        config.retry = RetryPolicy::none();
        let mut program = Program::new(path);
        program.args = agent.kind.arguments().iter().map(Into::into).collect();
        program.env = environment(agent.kind, attempts, env);
        let home = home(&agent, env)?;
        let model = args.model.as_ref().filter(|(_, ambient)| !ambient);
        let model = model.map(|(name, _)| name.as_str());
        let directory = env.directory()?;
        match agent.kind.protocol() {
            Protocol::Wire => {
                let session = args.conversation.clone().unwrap_or_else(|| run.to_string());
                let mut flag = |words: &[&str]| program.args.extend(words.iter().map(Into::into));
                flag(&["--session", &session]);
                flag(&["--max-retries-per-step", &attempts.to_string()]);
                if let Some(model) = model {
                    flag(&["--model", model]);
                }
                match args.thinking {
                    Some(Thinking::Off) => flag(&["--no-thinking"]),
                    Some(_) => flag(&["--thinking"]),
                    None => {}
                }
                let client = WireLlmClient::new(config, program)
                    .with_permissions(args.allow.clone())
                    .in_session(&home, &session);
                let books = Books {
                    kind: agent.kind,
                    home,
                    session: Some(session),
                    remember: None,
                };
                Ok(Client::Wire(Box::new(client), books))
            }
            Protocol::Acp => {
                let place = match &args.conversation {
                    Some(name) => Some(remembered(name, &home, &directory, env)?),
                    None => None,
                };
                let known = place.as_deref().and_then(|place| recall(place, &home));
                let options = Options {
                    directory: directory.to_string_lossy().into_owned(),
                    session: known.clone().map_or(Session::New, Session::Resume),
                    model: model.map(str::to_string),
                    thinking: args.thinking.map(|how| how.name().to_string()),
                    ..Options::default()
                };
                let client = AcpLlmClient::new(config, program, options, home.clone());
                let client = client.with_permissions(args.allow.clone());
                let books = Books {
                    kind: agent.kind,
                    home,
                    session: known,
                    remember: place,
                };
                Ok(Client::Acp(Box::new(client), books))
            }
        }
    }

    /// The configuration.
    pub(super) fn config_mut(&mut self) -> &mut LlmClientConfig {
        match self {
            Client::Http(client) => client.config_mut(),
            Client::Wire(client, _) => client.config_mut(),
            Client::Acp(client, _) => client.config_mut(),
        }
    }

    /// Tells the record what is known before anyone is asked, and where the agent's own account will stand.
    pub(super) fn introduce(&self, meter: &mut Meter) {
        let (Client::Wire(_, books) | Client::Acp(_, books)) = self else {
            return;
        };
        let record = meter.record_mut();
        record.session_id.clone_from(&books.session);
        if let Some(session) = &books.session {
            record.log = find_log(books.kind, &books.home, session);
        }
        let (kind, home) = (books.kind, books.home.clone());
        meter.find_logs(move |session| find_log(kind, &home, session));
    }

    /// What remains to be done when the run is over: a session that was begun by a name is remembered.
    ///
    /// # Errors
    ///
    /// Exit 74 when it cannot be.
    pub(super) fn finish(&self, meter: &Meter) -> Result<(), Failure> {
        let Client::Acp(_, books) = self else {
            return Ok(());
        };
        match (&books.remember, &meter.record().session_id) {
            (Some(place), Some(session)) if books.session.as_ref() != Some(session) => {
                store(place, session.as_bytes())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn run<O: Observer>(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut O,
    ) -> Result<LlmResponse, LlmError> {
        match self {
            Client::Http(client) => client.run(request, budget, observer),
            Client::Wire(client, _) => client.run(request, budget, observer),
            Client::Acp(client, _) => client.run(request, budget, observer),
        }
    }
}

/// The agent's environment: no telemetry and no update in the middle of a script, unless the user says otherwise, and as
/// many attempts as ours would be.
fn environment(
    kind: Kind,
    attempts: u32,
    env: &Env,
) -> Vec<(std::ffi::OsString, Option<std::ffi::OsString>)> {
    let attempts = attempts.to_string();
    let mut wanted = vec![("KIMI_DISABLE_TELEMETRY", "1")];
    if kind == Kind::KimiCode {
        wanted.push(("KIMI_CODE_NO_AUTO_UPDATE", "1"));
        wanted.push(("KIMI_LOOP_MAX_ATTEMPTS_PER_STEP", &attempts));
    }
    let wanted = wanted.into_iter();
    let wanted = wanted.filter(|(name, _)| env.variable(name).is_none());
    wanted
        .map(|(name, value)| (name.into(), Some(value.into())))
        .collect()
}

/// Where an agent keeps its sessions.
fn home(agent: &Agent, env: &Env) -> Result<PathBuf, Failure> {
    let (variable, below) = match agent.kind {
        Kind::KimiCode => ("KIMI_CODE_HOME", ".kimi-code"),
        Kind::KimiCli | Kind::KimiAgent => ("KIMI_SHARE_DIR", ".kimi"),
    };
    let named = env.variable(variable).map(PathBuf::from);
    let home = || Some(Path::new(&env.variable("HOME")?).join(below));
    named.or_else(home).ok_or_else(|| {
        let detail = format!(
            "neither {variable} nor HOME says where {} keeps its sessions",
            agent.kind.name()
        );
        Failure::new(Exit::Config, "configuration", detail).hint("set HOME")
    })
}

/// Where the log of a session stands, and where it ends now.
fn find_log(kind: Kind, home: &Path, session: &str) -> Option<SessionLogRef> {
    let directory = match kind {
        Kind::KimiCode => {
            let index = std::fs::read(home.join("session_index.jsonl")).unwrap_or_default();
            session_log::code_session_dir(&index, session)
                .or_else(|| session_log::find_session(&home.join("sessions"), session).ok()?)
        }
        Kind::KimiCli | Kind::KimiAgent => {
            session_log::find_session(&home.join("sessions"), session).ok()?
        }
    };
    let log = directory.map(|directory| match kind {
        Kind::KimiCode => directory.join("agents/main/wire.jsonl"),
        Kind::KimiCli | Kind::KimiAgent => directory.join("wire.jsonl"),
    });
    // A session that is begun now has no log yet: all that will stand in it is ours.
    let offset = log
        .and_then(|log| std::fs::metadata(log).ok())
        .map_or(0, |metadata| metadata.len());
    Some(SessionLogRef {
        agent: kind.name().to_string(),
        home: home.to_path_buf(),
        offset,
    })
}

/// The file that remembers the id of a session that was begun by this name in this directory.
fn remembered(name: &str, home: &Path, directory: &Path, env: &Env) -> Result<PathBuf, Failure> {
    let state = env
        .base_directory("XDG_STATE_HOME", ".local/state")
        .ok_or_else(|| {
            Failure::new(
                Exit::Config,
                "configuration",
                "--session needs a place to remember the conversation by, and HOME is not set",
            )
            .hint("set HOME or XDG_STATE_HOME")
        })?;
    let key = fingerprint([home, directory].map(|path| path.as_os_str().as_encoded_bytes()));
    Ok(state.join("sessions").join(key).join(name))
}

/// The id that was remembered, if the agent still has the session.
fn recall(place: &Path, home: &Path) -> Option<String> {
    let id = std::fs::read_to_string(place).ok()?;
    let id = id.trim();
    if !session_log::is_session_id(id) {
        return None;
    }
    let index = std::fs::read(home.join("session_index.jsonl")).unwrap_or_default();
    let there = session_log::code_session_dir(&index, id)
        .or_else(|| session_log::find_session(&home.join("sessions"), id).ok()?)
        .is_some_and(|directory| directory.is_dir());
    there.then(|| id.to_string())
}
