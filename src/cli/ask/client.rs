//! The three clients as one, made from the flags.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::catalog::money::Charge;
use crate::cli::ask::AskArgs;
use crate::cli::ask::peer::Destination;
use crate::cli::ask::peer::{self, Peer, Wanted};
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::Thinking;
use crate::cli::input::stopped;
use crate::cli::ledger as books;
use crate::cli::network;
use crate::cli::store::store;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::fingerprint::fingerprint;
use crate::cost::record::SessionLogRef;
use crate::llm::client::{
    AcpLlmClient, HttpLlmClient, LlmClient, LlmClientConfig, Place, WireLlmClient,
};
use crate::llm::error::LlmError;
use crate::llm::retry::RetryPolicy;
use crate::run::Run;
use crate::runtime::file;
use crate::runtime::text::escape_os;
use crate::transport::Transport;
use crate::transport::acp::{Options, Session};
use crate::transport::agents::{Agent, Dialect, KIMI_CODE, Protocol, Settings};
use crate::transport::child::Program;
use crate::transport::sandbox::Sandbox;
use crate::transport::session_dir;
use crate::transport::tape::{self, Player, Recorder, Tape, TapeError};

/// What surrounds a client: the agent's session, and the recording or the replay.
pub(super) struct Conversation {
    /// Where the agent keeps the session; `None` for a service and a replay.
    books: Option<Books>,
    /// Where the conversation is recorded, if it is.
    recorder: Recorder,
    /// Where it is played from instead.
    player: Option<Player>,
}

/// What an agent keeps on disk about its sessions, and what omk keeps about them.
pub(super) struct Books {
    dialect: &'static Dialect,
    /// The agent's home.
    home: PathBuf,
    /// The session, where it is known before the agent runs.
    session: Option<String>,
    /// Where the session's name and id are to be remembered.
    remember: Option<PathBuf>,
    /// The program, and where it is kept what it was found to be.
    program: PathBuf,
    verdicts: Option<PathBuf>,
    /// The model that was asked for, by its name in the agent's configuration.
    model: Option<String>,
}

impl Books {
    /// Says what the agent left unsaid: that it has no such model, and which it has. An agent that did not start may not be
    /// what it was taken for, and is asked again next time.
    fn explain(&self, error: LlmError) -> LlmError {
        let file = self.dialect.config_file(&self.home);
        let models = self.dialect.models(&self.home);
        let names: Vec<&str> = models.names().collect();
        match (&error, &self.model) {
            (LlmError::AgentUnavailable { .. }, _) => {
                if let Some(verdicts) = &self.verdicts {
                    peer::forget(verdicts, &self.program);
                }
                error
            }
            (LlmError::NotLoggedIn { .. } | LlmError::ModelNotConfigured { .. }, Some(model))
                if !names.is_empty() && !names.contains(&model.as_str()) =>
            {
                LlmError::ModelNotConfigured {
                    detail: format!(
                        "{} has no model `{model}`; it has {}",
                        escape_os(&file),
                        names.join(", ")
                    ),
                }
            }
            _ => error,
        }
    }
}

/// The id at the service of the model that an agent will ask, by its configuration.
pub(super) fn configured_model(peer: &Peer, args: &AskArgs, env: &Env) -> Option<String> {
    let Peer::Agent { agent, .. } = peer else {
        return None;
    };
    let variable = agent.dialect.model_variable;
    if let Some(name) = variable.and_then(|name| env.variable(name)) {
        return name.into_string().ok();
    }
    let models = agent.dialect.models(&home(agent.dialect, env).ok()?);
    models.id(model(args)).map(str::to_string)
}

/// Bytes in which the first line of a tape ends.
const LONGEST_HEADER: u64 = 64 * 1024;
/// The largest tape: many times the largest answer.
const LARGEST_TAPE: u64 = 256 * 1024 * 1024;

/// The peer, or what is played instead.
///
/// # Errors
///
/// See [`peer::choose`]; a tape that cannot be read.
pub(super) fn peer(args: &AskArgs, env: &Env) -> Result<(Peer, Option<Player>), Failure> {
    if let Some(path) = &args.replay {
        let player = Player::new(read_tape(path, env)?);
        return Ok((Peer::of_tape(&player.header()), Some(player)));
    }
    Ok((peer::choose(&wanted(args), args.deadline, env)?, None))
}

/// Where a question would go; nothing is started.
///
/// # Errors
///
/// See [`peer::destination`]; a tape that cannot be read.
pub(crate) fn destination(args: &AskArgs, env: &Env) -> Result<Destination, Failure> {
    if let Some(path) = &args.replay {
        let tape = Player::new(read_tape(path, env)?);
        let name = Peer::of_tape(&tape.header()).name();
        return Ok(Destination::Tape { name });
    }
    peer::destination(&wanted(args), env)
}

fn wanted(args: &AskArgs) -> Wanted<'_> {
    Wanted {
        transport: args.transport,
        kimi: args.kimi.as_deref(),
        base_url: args
            .base_url
            .as_ref()
            .map(|(url, decides)| (url.as_str(), *decides)),
    }
}

/// The tape that was named; `example` is the one that comes with omk.
fn read_tape(path: &Path, env: &Env) -> Result<Tape, Failure> {
    let shown = escape_os(path);
    let tape = if path.as_os_str() == "example" {
        Tape::example()
    } else {
        let bytes = read_bytes_of_tape(path, env).map_err(|error| {
            if let Some(failure) = stopped(&error, &format!("`{shown}`"), env.deadline) {
                return failure;
            }
            let detail = format!("--replay `{shown}`: {error}");
            Failure::new(Exit::NoInput, "input", detail)
                .hint("`example` is a recording that comes with omk")
        })?;
        Tape::parse(&bytes)
    };
    tape.map_err(|error| {
        let detail = format!("--replay `{shown}`: {error}");
        Failure::new(Exit::Config, "replay", detail).hint("--record FILE makes a recording")
    })
}

/// A file without the beginning of a tape is not read any further.
fn read_bytes_of_tape(path: &Path, env: &Env) -> io::Result<Vec<u8>> {
    let mut source = file::Source::open(path, env.deadline.until())?;
    let mut bytes = Vec::new();
    (&mut source).take(LONGEST_HEADER).read_to_end(&mut bytes)?;
    if Tape::begins(&bytes) {
        bytes.extend(source.read_rest(LARGEST_TAPE)?);
    }
    Ok(bytes)
}

impl Conversation {
    /// The client for this peer. `run` is the run's name, which is a session's where nobody named one.
    ///
    /// # Errors
    ///
    /// A variable, a remembered session or a file for the recording that cannot be used.
    pub(super) fn begin(
        args: &AskArgs,
        (peer, player): (Peer, Option<Player>),
        config: LlmClientConfig,
        run: &str,
        env: &Env,
    ) -> Result<(Box<dyn LlmClient>, Conversation), Failure> {
        let recorder = match &args.record {
            Some(path) => record(path, &peer, &config)?,
            None => Recorder::off(),
        };
        let (client, books) = match &player {
            Some(player) => (play(args, player, config, env)?, None),
            None => connect(args, peer, config, run, &recorder, env)?,
        };
        let conversation = Conversation {
            books,
            recorder,
            player,
        };
        Ok((client, conversation))
    }

    /// Tells the record what is known before anyone is asked, and where the agent's own account will stand.
    pub(super) fn introduce(&self, run: &mut Run<JsonFileCostSink>) {
        if let Some(books) = &self.books {
            let (dialect, home) = (books.dialect, books.home.clone());
            run.log_of(books.session.as_deref(), move |session| {
                find_log(dialect, &home, session)
            });
        }
    }

    /// What remains to be done when the run is over: a session that was begun by a name is remembered, a recording takes
    /// its name, and a replay was one.
    ///
    /// # Errors
    ///
    /// Exit 74 for what cannot be written, 1 for a run that was not the one on the tape.
    pub(super) fn end(&self, run: &Run<JsonFileCostSink>) -> Result<(), Failure> {
        if let Some(player) = &self.player {
            player.finish().map_err(|error| {
                Failure::new(Exit::Failed, "replay", error.to_string()).hint(
                    "a tape answers the very request that was recorded; --record makes another for this one",
                )
            })?;
        }
        self.recorder.finish().map_err(|error| {
            let exit = match error {
                TapeError::Io { .. } => Exit::Io,
                _ => Exit::Failed,
            };
            Failure::new(exit, "record", error.to_string())
        })?;
        let Some(books) = &self.books else {
            return Ok(());
        };
        match (&books.remember, &run.record().session_id) {
            (Some(place), Some(session)) if books.session.as_ref() != Some(session) => {
                store(place, session.as_bytes())
            }
            _ => Ok(()),
        }
    }

    /// Whether an agent that did not start may be another one than it was taken for.
    pub(super) fn may_be_another(&self, error: &LlmError) -> bool {
        let fails_so = matches!(
            error.root(),
            LlmError::AgentUnavailable { .. }
                | LlmError::NotLoggedIn { .. }
                | LlmError::Protocol { .. }
        );
        self.books.is_some() && fails_so && error.may_have_charged() == Charge::No
    }

    /// Whether the agent is another one than it was taken for, by what it says now.
    pub(super) fn is_another(&self, deadline: Deadline, env: &Env) -> bool {
        let Some(books) = &self.books else {
            return false;
        };
        peer::identify_again(&books.program, deadline, env)
            .is_ok_and(|agent| agent.dialect != books.dialect)
    }

    /// The error with what the agent left unsaid.
    pub(super) fn explain(&self, error: &LlmError) -> LlmError {
        match &self.books {
            Some(books) => books.explain(error.root().clone()),
            None => error.clone(),
        }
    }
}

/// A recorder for what this peer will say.
fn record(path: &Path, peer: &Peer, config: &LlmClientConfig) -> Result<Recorder, Failure> {
    let (transport, agent, secrets) = match peer {
        Peer::Http { key, .. } => (Transport::Http, None, key.iter().cloned().collect()),
        Peer::Agent { agent, .. } => {
            let transport = match agent.dialect.protocol {
                Protocol::Wire => Transport::Wire,
                Protocol::Acp => Transport::Acp,
            };
            let peer = tape::Peer {
                kind: agent.dialect.name.to_string(),
                version: agent.version.clone(),
            };
            (transport, Some(peer), Vec::new())
        }
        Peer::Tape { .. } => return Ok(Recorder::off()),
    };
    let header = tape::Header::new(transport, config.model.id.as_ref(), agent);
    Recorder::create(path, &header, &secrets)
        .map_err(|error| Failure::new(Exit::Io, "record", error.to_string()))
}

/// The client that plays a tape.
fn play(
    args: &AskArgs,
    player: &Player,
    mut config: LlmClientConfig,
    env: &Env,
) -> Result<Box<dyn LlmClient>, Failure> {
    // Files are where they were when the tape was made, whether or not there are any now.
    if let Some(directory) = player.directory() {
        config.place = Place::new(directory);
    }
    Ok(match player.header().transport {
        Transport::Http => Box::new(HttpLlmClient::replay(config, player)),
        Transport::Wire => {
            config.retry = RetryPolicy::none();
            let client = WireLlmClient::replay(config, player);
            Box::new(client.with_permissions(args.allow.clone()))
        }
        Transport::Acp | Transport::Log => {
            config.retry = RetryPolicy::none();
            let options = options(args, &env.directory()?, None);
            let peer = player.header().peer;
            let dialect = peer.and_then(|peer| Dialect::of_name(&peer.kind));
            let dialect = dialect.unwrap_or(&KIMI_CODE);
            let client = AcpLlmClient::replay(config, player, options, dialect);
            Box::new(client.with_permissions(args.allow.clone()))
        }
    })
}

/// The client that really asks.
fn connect(
    args: &AskArgs,
    peer: Peer,
    mut config: LlmClientConfig,
    run: &str,
    recorder: &Recorder,
    env: &Env,
) -> Result<(Box<dyn LlmClient>, Option<Books>), Failure> {
    let (agent, path) = match peer {
        Peer::Http { base_url, key } => {
            if key.is_some() && !args.insecure {
                network::check_encrypted(&base_url)?;
            }
            let http = network::http(env, args.deadline)?;
            let client = HttpLlmClient::new(config, &base_url, key, http).recorded(recorder);
            return Ok((Box::new(client), None));
        }
        Peer::Agent { agent, path } => (agent, path),
        Peer::Tape { .. } => {
            return Err(Failure::new(
                Exit::Failed,
                "replay",
                "a recording sends nothing",
            ));
        }
    };
    let attempts = config.retry.max_retries.saturating_add(1);
    // The agent tries again by itself; ours would multiply with its own.
    config.retry = RetryPolicy::none();
    let dialect = agent.dialect;
    let session = match dialect.protocol {
        Protocol::Wire => Some(args.conversation.clone().unwrap_or_else(|| run.to_string())),
        Protocol::Acp => None,
    };
    let more = more_directories(args, &agent, env)?;
    let settings = Settings {
        session: session.as_deref(),
        model: model(args),
        thinking: args.thinking.map(|how| how != Thinking::Off),
        attempts: Some(attempts),
        max_steps: args.max_steps,
        directories: &more,
    };
    let mut program = Program::new(&path);
    program.args = dialect
        .arguments(&settings)
        .into_iter()
        .map(Into::into)
        .collect();
    let wanted = dialect.environment(&settings).into_iter();
    program.env = wanted
        // A limit that was asked for holds, whatever the variable says.
        .filter(|(name, _)| env.variable(name).is_none() || name.ends_with("_MAX_STEPS_PER_TURN"))
        .map(|(name, value)| (name.into(), Some(value.into())))
        .collect();
    let home = home(dialect, env)?;
    let directory = env.directory()?;
    config.place = place(&directory, &home, env);
    config.place.more = more.iter().map(PathBuf::from).collect();
    let program = confined(args, program, &config.place, &home, env)?;
    match session {
        Some(session) => {
            let client = WireLlmClient::new(config, program)
                .with_permissions(args.allow.clone())
                .in_session(&home, &session);
            let books = Books {
                dialect,
                home,
                session: Some(session),
                remember: None,
                program: path,
                verdicts: peer::verdicts(env),
                model: model(args).map(str::to_string),
            };
            Ok((Box::new(client.recorded(recorder)), Some(books)))
        }
        None => {
            let place = match &args.conversation {
                Some(name) => Some(remembered(name, &home, &directory, env)?),
                None => None,
            };
            let known = place
                .as_deref()
                .and_then(|place| recall(place, dialect, &home));
            let options = Options {
                more_directories: more,
                ..options(args, &directory, known.clone())
            };
            let client = AcpLlmClient::new(config, program, options, dialect, home.clone());
            let client = client.with_permissions(args.allow.clone());
            let books = Books {
                dialect,
                home,
                session: known,
                remember: place,
                program: path,
                verdicts: peer::verdicts(env),
                model: model(args).map(str::to_string),
            };
            Ok((Box::new(client.recorded(recorder)), Some(books)))
        }
    }
}

/// The directories of `--add-dir`, links resolved.
///
/// # Errors
///
/// Exit 66 for one that is none, 2 for an agent that takes none.
fn more_directories(args: &AskArgs, agent: &Agent, env: &Env) -> Result<Vec<String>, Failure> {
    if !args.add_dir.is_empty() && !agent.dialect.takes_directories {
        let detail = format!(
            "--add-dir: {} {} works in one directory",
            agent.dialect.name, agent.version
        );
        return Err(Failure::new(Exit::Usage, "usage", detail)
            .hint("-C DIR chooses a directory that holds all of them"));
    }
    let current = env.directory()?;
    let found = args.add_dir.iter().map(|named| {
        let failed = |why: String| {
            let detail = format!("--add-dir `{}`: {why}", escape_os(named));
            Failure::new(Exit::NoInput, "input", detail)
        };
        let real = std::fs::canonicalize(current.join(named));
        let real = real.map_err(|error| failed(error.to_string()))?;
        if !real.is_dir() {
            return Err(failed("is not a directory".to_string()));
        }
        let text = real.into_os_string().into_string();
        text.map_err(|_| failed("is not UTF-8".to_string()))
    });
    found.collect()
}

/// Where an agent works, and what only an exact rule lets it touch there.
fn place(directory: &Path, agent_home: &Path, env: &Env) -> Place {
    let mut place = Place::new(directory).protecting(agent_home);
    place.home = env.variable("HOME").map(PathBuf::from);
    for own in own_directories(env) {
        place = place.protecting(own);
    }
    place
}

/// What omk keeps for itself.
fn own_directories(env: &Env) -> Vec<PathBuf> {
    let state = env.base_directory("XDG_STATE_HOME", ".local/state");
    let found = [env.config_directory(), books::path(env), state];
    found.into_iter().flatten().collect()
}

/// The agent in a sandbox, if one is wanted.
///
/// # Errors
///
/// Exit 69 where there is none to be had.
fn confined(
    args: &AskArgs,
    program: Program,
    place: &Place,
    agent_home: &Path,
    env: &Env,
) -> Result<Program, Failure> {
    let Some(mode) = args.sandbox else {
        return Ok(program);
    };
    // What is not there cannot be let in, and an agent makes it when it first runs.
    std::fs::create_dir_all(agent_home).map_err(|error| {
        let detail = format!("cannot create `{}`: {error}", escape_os(agent_home));
        Failure::new(Exit::Io, "sandbox", detail)
    })?;
    let sandbox = Sandbox {
        mode,
        directory: place.directory.clone(),
        more: place.more.clone(),
        home: env.variable("HOME").map(PathBuf::from),
        agent_home: agent_home.to_path_buf(),
        hidden: own_directories(env),
        path: env.variable("PATH").unwrap_or_default(),
    };
    sandbox
        .wrap(program)
        .map_err(|none| Failure::new(Exit::NoService, "no sandbox", none.detail).hint(none.hint))
}

/// The model that an agent is to be told of.
fn model(args: &AskArgs) -> Option<&str> {
    let model = args.model.as_ref().filter(|(_, ambient)| !ambient);
    model.map(|(name, _)| name.as_str())
}

/// What a session over ACP is begun or gone on with.
fn options(args: &AskArgs, directory: &Path, session: Option<String>) -> Options {
    Options {
        directory: directory.to_string_lossy().into_owned(),
        session: session.map_or(Session::New, Session::Resume),
        model: model(args).map(str::to_string),
        thinking: args.thinking.map(|how| how.name().to_string()),
        ..Options::default()
    }
}

/// Where an agent keeps its sessions.
fn home(dialect: &Dialect, env: &Env) -> Result<PathBuf, Failure> {
    dialect.home(|name| env.variable(name)).ok_or_else(|| {
        let detail = format!(
            "neither {} nor HOME says where {} keeps its sessions",
            dialect.home_variable, dialect.name
        );
        Failure::new(Exit::Config, "configuration", detail).hint("set HOME")
    })
}

/// Where the log of a session stands, and where it ends now.
fn find_log(dialect: &Dialect, home: &Path, session: &str) -> Option<SessionLogRef> {
    let directory = dialect.session_directory(home, session).ok()?;
    let log = directory.map(|directory| directory.join(dialect.main_log));
    // A session that is begun now has no log yet: all that will stand in it is ours.
    let offset = log
        .and_then(|log| std::fs::metadata(log).ok())
        .map_or(0, |metadata| metadata.len());
    Some(SessionLogRef {
        agent: dialect.name.to_string(),
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
fn recall(place: &Path, dialect: &Dialect, home: &Path) -> Option<String> {
    let id = file::read_regular(place, 4096).ok()?;
    let id = std::str::from_utf8(&id).ok()?.trim();
    if !session_dir::is_session_id(id) {
        return None;
    }
    let directory = dialect.session_directory(home, id).ok()??;
    directory.is_dir().then(|| id.to_string())
}
