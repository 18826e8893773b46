//! `omk cost import kimi`: what interactive sessions used, read from the logs that the agents keep.
//!
//! One record for each turn and model, and not one for each call: a turn is what someone asked and waited for, as a run of
//! omk is, so both stand in one report by the same right; and a ledger with a record for each of an agent's calls would be
//! ten times as large and say no more, since the amount is made call by call in any case. Its id is made from the agent's
//! own name for the prompt, which a copy of the session has too, so nothing is added twice, however often it is read.
//!
//! Logs are read session by session, and records are looked up and written [`BATCH`] at a time, so what is held in memory is
//! a session, a batch, and a few bytes for each turn, however large the ledger is.
//!
//! Refuses to add what the ledger has: a turn that began while a run of omk had that session. And what is not finished: a
//! turn without an end waits, until its log has been quiet for [`QUIET`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::catalog::Catalog;
use crate::cli::commands::cost::report::SumsReport;
use crate::cli::commands::cost::{Ledger, books, counted, open, trouble, warn};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared};
use crate::cli::flags::{LowArgs, UsageError, value};
use crate::cli::prices;
use crate::cost::file_sink::{Fold, Folded};
use crate::cost::fingerprint::fingerprint;
use crate::cost::record::PriceUsed;
use crate::cost::record::Transport;
use crate::cost::record::{self, Charge, SessionCost, SessionStatus, SessionType};
use crate::cost::report::Sums;
use crate::cost::view::{Period, with_view};
use crate::runtime::clock::format_rfc3339;
use crate::runtime::process;
use crate::runtime::text::escape_os;
use crate::transport::agents::{self, Dialect};
use crate::transport::session_turns::{Call, Turn};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
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
has no price. What the Kimi Code plan paid for is marked, and never added to money. A turn under way waits for the next import. \
What another agent did in a session that Kimi Code copied is not added.",
    examples: &[
        ("omk cost import kimi --dry-run", "What there is to read."),
        (
            "omk cost import kimi",
            "From here on one report shows all Kimi spending.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &super::DRY_RUN,
            &MODEL,
            &shared::PRICE_FILE,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

static MODEL: Flag = Flag {
    long: "model",
    takes: Takes::Value("NAME", |low, v| {
        low.cost.model = Some(value::name(v)?);
        Ok(())
    }),
    doc: "Model of the sessions whose logs do not say it. Those of kimi-cli never do; without this their turns have no price.",
    completes: Completes::Models,
    ..Flag::BLANK
};

/// So many records are written at once.
const BATCH: usize = 4096;
/// A log that was not written to for so long belongs to a session that is over.
const QUIET: Duration = Duration::from_secs(3600);

/// The JSON document `omk.cost-import/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document {
    dry_run: bool,
    homes: Vec<HomeReport>,
    added: u64,
    updated: u64,
    known: u64,
    own: u64,
    under_way: u64,
    undated: u64,
    /// Calls of other agents, in sessions that were copied from them.
    foreign_calls: u64,
    /// What was added, or would be.
    sums: SumsReport,
}

#[derive(Serialize)]
struct HomeReport {
    agent: &'static str,
    path: String,
    sessions: u64,
}

/// What became of the turns.
#[derive(Default)]
struct Tally {
    added: u64,
    updated: u64,
    known: u64,
    own: u64,
    under_way: u64,
    undated: u64,
    foreign: u64,
    sums: Sums,
}

/// One reading.
struct Import<'a> {
    ledger: Ledger,
    catalog: Catalog,
    /// The model of sessions that name none.
    model: Option<&'a str>,
    dry_run: bool,
    /// When runs of omk had a session, in milliseconds since 1970.
    own: HashMap<String, Vec<(u64, u64)>>,
    /// The turns so far, by what makes their names: a copy of a session has the same ones.
    seen: BTreeSet<(u64, u64)>,
    batch: Vec<SessionCost>,
    tally: Tally,
}

/// Imports.
pub(super) fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    match low.positionals.first().map(|word| value::name(word)) {
        Some(Ok(name)) if name == "kimi" => {}
        Some(Ok(name)) => {
            let message = format!("there is no import for `{name}`");
            return Err(UsageError::new(message)
                .hint("`omk cost import kimi` is the one there is")
                .into());
        }
        Some(Err(error)) => return Err(UsageError::new(format!("AGENT: {error}")).into()),
        None => {
            let error = UsageError::new("an agent must be named");
            return Err(error.hint("`omk cost import kimi`").into());
        }
    }
    let ledger = open(env)?;
    let mut found = Vec::new();
    for (dialect, home) in homes(env)? {
        let directories = session_directories(&home, env);
        found.push((dialect, home, directories));
    }
    let all = found.iter().flat_map(|(.., directories)| directories);
    let mut import = Import {
        own: own(
            &ledger,
            all.map(|directory| name_of(directory)).collect(),
            env,
        )?,
        ledger,
        catalog: prices::load(&low.price_file, env)?,
        model: low.cost.model.as_deref(),
        dry_run: low.cost.dry_run,
        seen: BTreeSet::new(),
        batch: Vec::new(),
        tally: Tally::default(),
    };
    let mut reports = Vec::new();
    for (dialect, home, directories) in found {
        let mut sessions = 0;
        for directory in directories {
            if import.session(&directory, dialect, env)? {
                sessions += 1;
            }
            if std::io::stderr().is_terminal() {
                let turns = import.seen.len();
                env.output
                    .status(Some(&format!("omk: {sessions} sessions, {turns} turns")));
            }
        }
        reports.push(HomeReport {
            agent: dialect.name,
            path: escape_os(&home),
            sessions,
        });
    }
    let homes = reports;
    import.flush()?;
    env.output.status(None);
    if !low.cost.dry_run {
        // As many as one fold takes at a time, until none is due.
        while let Ok(Folded::Done { records: 1.., .. }) = import.ledger.sink().fold(Fold::IfDue) {}
    }
    let Tally {
        added,
        updated,
        known,
        own,
        under_way,
        undated,
        foreign,
        sums,
    } = import.tally;
    if undated > 0 {
        env.output.warning(format!(
            "{} without a time in the log: not taken",
            counted(undated, "turn")
        ));
    }
    if low.json {
        env.output.document(
            "omk.cost-import/1",
            Exit::Done,
            &Document {
                dry_run: low.cost.dry_run,
                homes,
                added,
                updated,
                known,
                own,
                under_way,
                undated,
                foreign_calls: foreign,
                sums: SumsReport::of(&sums),
            },
            None,
        )?;
        return Ok(Exit::Done);
    }
    for home in &homes {
        env.output.print(&format!(
            "{}: {} in {}\n",
            home.agent,
            counted(home.sessions, "session"),
            home.path
        ))?;
    }
    let mut line = format!(
        "{} {}: {}",
        counted(added, "turn"),
        if low.cost.dry_run { "to add" } else { "added" },
        sums.metered.usd
    );
    let unpriced = sums.metered.unpriced + sums.metered.in_doubt;
    for (count, what) in [
        (unpriced, "without a price"),
        (sums.plan.runs, "paid for by a subscription"),
        (updated, "brought up to date"),
        (known, "known already"),
        (own, "of omk's own runs"),
        (under_way, "under way"),
        (foreign, "calls of other agents left out"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    env.output.print(&format!("{line}\n"))?;
    Ok(Exit::Done)
}

/// The agents' homes. Some agents share one, and its logs with it.
fn homes(env: &Env) -> Result<Vec<(&'static Dialect, PathBuf)>, Failure> {
    let mut homes: Vec<(&'static Dialect, PathBuf)> = Vec::new();
    for dialect in agents::ALL {
        let home = dialect.home(|name| env.variable(name)).ok_or_else(|| {
            let detail = format!(
                "neither {} nor HOME says where the sessions are",
                dialect.home_variable
            );
            Failure::new(Exit::Config, "configuration", detail).hint("set HOME")
        })?;
        let is_known = |known: &Dialect| known.home_variable == dialect.home_variable;
        if !homes.iter().any(|(known, _)| is_known(known)) {
            homes.push((dialect, home));
        }
    }
    Ok(homes)
}

/// `sessions/*/*` below a home, sorted. What cannot be read is a warning.
fn session_directories(home: &Path, env: &mut Env) -> Vec<PathBuf> {
    let mut found = vec![home.join("sessions")];
    for _ in 0..2 {
        let mut below = Vec::new();
        for directory in found {
            match std::fs::read_dir(&directory) {
                Ok(entries) => below.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // A file beside the directories.
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
                Err(error) => env
                    .output
                    .warning(format!("cannot read `{}`: {error}", escape_os(&directory))),
            }
        }
        found = below;
    }
    found.sort();
    found
}

/// The name of a session, by its directory.
fn name_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// When runs of omk had one of these sessions. Reads the whole ledger once.
fn own(
    ledger: &Ledger,
    sessions: BTreeSet<String>,
    env: &mut Env,
) -> Result<HashMap<String, Vec<(u64, u64)>>, Failure> {
    let mut own: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
    if sessions.is_empty() {
        return Ok(own);
    }
    let notes = ledger.report_records(Period::default(), &mut |run, whole| {
        // A service keeps no session, and what was imported is no run of omk.
        if run.session_type == SessionType::Import || run.transport == Some(Transport::Http) {
            return ControlFlow::Continue(());
        }
        if let Some(run) = whole()
            && let Some(session) = run.session_id.as_ref()
            && sessions.contains(session)
        {
            let ended = run.ended_at.as_deref().and_then(books::moment_ms);
            let times = (books::started_ms(&run), ended.unwrap_or(u64::MAX));
            own.entry(session.clone()).or_default().push(times);
        }
        ControlFlow::Continue(())
    });
    warn(&notes.map_err(trouble)?, env);
    Ok(own)
}

impl Import<'_> {
    /// Takes a session in; false if the directory is none.
    fn session(
        &mut self,
        directory: &Path,
        dialect: &'static Dialect,
        env: &mut Env,
    ) -> Result<bool, Failure> {
        let session = name_of(directory);
        let agents = match books::read_session(directory, dialect, 0) {
            Ok(None) => return Ok(false),
            Ok(Some(mut found)) => {
                for contradiction in &found.contradictions {
                    env.output.warning(format!(
                        "the session `{}`: {}: {}",
                        escape_os(directory),
                        contradiction.detail,
                        contradiction.raw
                    ));
                }
                found.others.insert(0, ("main".to_string(), found.turns));
                if books::is_copied(directory) {
                    self.leave_out_foreign(&mut found.others);
                }
                found.others
            }
            Err(error) => {
                env.output.warning(format!(
                    "the session `{}` is not imported: {error}",
                    escape_os(directory)
                ));
                return Ok(true);
            }
        };
        let is_quiet = std::fs::metadata(directory.join(dialect.main_log))
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| env.clock.now().duration_since(modified).ok())
            .is_some_and(|since| since >= QUIET);
        for (name, turns) in agents {
            for (place, turn) in turns.iter().enumerate() {
                if turn.calls.is_empty() {
                    continue;
                }
                let Some(started) = turn.started_ms else {
                    self.tally.undated += 1;
                    continue;
                };
                let times = self.own.get(&session);
                if times.is_some_and(|times| {
                    times
                        .iter()
                        .any(|(from, until)| (*from..=*until).contains(&started))
                }) {
                    self.tally.own += 1;
                } else if !turn.is_over && !is_quiet {
                    self.tally.under_way += 1;
                } else {
                    // The agent's name for the prompt is the same in a copy of the session.
                    let origin = match &turn.prompt {
                        Some(prompt) => vec![prompt.clone()],
                        None => vec![session.clone(), name.clone(), place.to_string()],
                    };
                    for (chance, run) in
                        self.records(turn, started, dialect.name, &session, &origin)
                    {
                        match self.seen.insert((started, chance)) {
                            true => self.batch.push(run),
                            // A copy of the session.
                            false => self.tally.known += 1,
                        }
                    }
                    if self.batch.len() >= BATCH {
                        self.flush()?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Leaves the calls of a copied session out that another agent made: Kimi Code logs each of its own when it asks.
    fn leave_out_foreign(&mut self, agents: &mut [(String, Vec<Turn>)]) {
        for turn in agents.iter_mut().flat_map(|(_, turns)| turns) {
            let before = turn.calls.len();
            turn.calls.retain(|call| call.model.is_some());
            self.tally.foreign += before.saturating_sub(turn.calls.len()) as u64;
        }
    }

    /// A record for each model of a turn, with the chance in its name.
    fn records(
        &self,
        turn: &Turn,
        started: u64,
        agent: &str,
        session: &str,
        origin: &[String],
    ) -> Vec<(u64, SessionCost)> {
        let mut models: BTreeMap<(Option<&str>, Option<&str>), Vec<&Call>> = BTreeMap::new();
        for call in &turn.calls {
            let model = (call.alias.as_deref(), call.model.as_deref());
            models.entry(model).or_default().push(call);
        }
        let records = models.into_iter().map(|((alias, model), calls)| {
            let mut parts = vec![agent, alias.unwrap_or_default(), model.unwrap_or_default()];
            parts.extend(origin.iter().map(String::as_str));
            let chance = u64::from_str_radix(fingerprint(parts).get(..12).unwrap_or_default(), 16);
            let chance = chance.unwrap_or(0);
            let began = books::moment(started);
            let mut run = SessionCost::open(
                record::new_id(began, 0, chance),
                SessionType::Import,
                format_rfc3339(began),
            );
            let ended = turn.ended_ms.unwrap_or(started).max(started);
            run.ended_at = Some(format_rfc3339(books::moment(ended)));
            run.model.requested = alias.or(model).or(self.model).map(str::to_string);
            run.model.reported = model.map(str::to_string);
            run.transport = Some(Transport::Log);
            run.peer = agent.to_string();
            run.session_id = Some(session.to_string());
            run.owner.host = process::host_name();
            run.charged = Charge::Yes;
            run.usage = books::used(calls.iter().copied());
            let row = calls
                .first()
                .and_then(|call| books::row(call, self.model, &self.catalog));
            run.kind = books::kind(alias, row);
            run.price = row.and_then(PriceUsed::of);
            run.actual_usd = books::cost(calls.iter().copied(), |_| row?.price.clone());
            let is_told = calls.iter().all(|call| call.usage.is_some());
            run.status = if is_told {
                SessionStatus::Settled
            } else {
                SessionStatus::Unknown
            };
            if run.actual_usd.is_none() && !is_told {
                // What was reported of it is the least that it cost.
                let told = calls.iter().copied().filter(|call| call.usage.is_some());
                run.actual_usd =
                    books::cost(told, |_| row?.price.clone()).filter(|usd| !usd.is_zero());
            }
            (chance, run)
        });
        records.collect()
    }

    /// Adds what has gathered, brings records up to date, or leaves them.
    fn flush(&mut self) -> Result<(), Failure> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        // Names begin with the time.
        let moment = |run: Option<&SessionCost>| run.map_or(0, books::started_ms);

        let period = Period {
            from: Some(books::moment(moment(batch.first()))),
            until: Some(books::moment(moment(batch.last()).saturating_add(1))),
        };
        if batch.is_empty() {
            return Ok(());
        }
        let (mut known, mut updated) = (BTreeSet::new(), 0);
        // The first reading has warned of what cannot be read.
        let read = self.ledger.report_records(period, &mut |view, whole| {
            let place = batch.binary_search_by(|run| run.id.as_str().cmp(view.id));
            if let Some(run) = place.ok().and_then(|place| batch.get(place)) {
                // Rates that were in force then stay; a price where there was none is news.
                let is_priced = run.price.is_none()
                    || view.actual_usd.is_some()
                    || whole().is_some_and(|known| known.price.is_some());
                match view.usage == run.usage && is_priced {
                    true => drop(known.insert(run.id.clone())),
                    false => updated += 1,
                }
            }
            ControlFlow::Continue(())
        });
        read.map_err(trouble)?;
        batch.retain(|run| !known.contains(&run.id));
        self.tally.known += known.len() as u64;
        self.tally.updated += updated;
        self.tally.added += (batch.len() as u64).saturating_sub(updated);
        for run in &batch {
            with_view(run, |view| self.tally.sums.add(view));
        }
        if !self.dry_run && !batch.is_empty() {
            self.ledger.sink().save_all(batch).map_err(trouble)?;
        }
        Ok(())
    }
}
