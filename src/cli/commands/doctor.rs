//! `omk doctor`: looks at everything that omk depends on, and says what is wrong with it.
//!
//! Each check is one line: what was found, and the command or setting that fixes it. It sends nothing to a model, and over the
//! network only a request for the list of models, which is free; `--offline` leaves that out. `--fix` changes what omk itself
//! owns: its ledger, the price list that it fetched and its completions.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::catalog::{Catalog, Origin, Status};
use crate::cli::ask::peer;
use crate::cli::commands::TABLE;
use crate::cli::commands::cost::trouble;
use crate::cli::config;
use crate::cli::deadline::Deadline;
use crate::cli::doc::complete::{Shell, script};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{
    CommandSpec, Completes, Flag, FlagGroup, Invocation, LowArgs, Takes, shared,
};
use crate::cli::store::store;
use crate::cli::{fleet, ledger, network, prices};
use crate::runtime::clock::{format_date, parse_rfc3339};
use crate::runtime::file;
use crate::runtime::secret::Secret;
use crate::runtime::table::{Align, Table};
use crate::runtime::text::{escape, escape_os};
use crate::runtime::words::words;
use crate::transport::agents::Protocol;
use crate::transport::sandbox;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "doctor",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "check what omk depends on, and say what is wrong",
    doc: "Checks everything that omk depends on. Agents are looked for on the path: version, protocol, whether they start, and how \
they read files. The key must belong to the host. Proxy and certificates must be usable. The ledger must be writable and is \
read whole for damage. Budgets and the config file must be valid, and prices recent. Completions, the manual and the sandbox \
are looked for too. Each line says what was found and how to fix it. The exit code is 0 unless a check failed; a warning is \
no failure.\n\n\
No model is asked and nothing costs money. With a key the service is asked for its list of models, unless {--offline} is given.",
    examples: &[
        ("omk doctor", "Look at everything that omk depends on."),
        (
            "omk doctor --offline --json",
            "The same for a script, without the network.",
        ),
        ("omk doctor --fix", "Repair what omk owns, then check."),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &OFFLINE,
            &FIX,
            &shared::KIMI,
            &shared::BASE_URL,
            &shared::DEADLINE,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run,
};

static OFFLINE: Flag = Flag {
    long: "offline",
    takes: Takes::Nothing(|low| low.doctor.offline = true),
    doc: "Use no network. Whether the service takes the key is then not known.",
    ..Flag::BLANK
};

static FIX: Flag = Flag {
    long: "fix",
    takes: Takes::Nothing(|low| low.doctor.fix = true),
    doc: "Fix what omk itself owns. Damage in the ledger is put aside as by `omk cost repair`. A fetched price list that cannot \
be read is removed. The completion script for your shell is installed or renewed. Nothing else is changed.",
    ..Flag::BLANK
};

/// How long the service is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Prices change a few times a year.
const OLD_PRICES: Duration = Duration::from_secs(120 * 24 * 3600);
/// The largest completion script that is compared.
const LARGEST_SCRIPT: u64 = 4 * 1024 * 1024;
/// The hosts of Moonshot: each takes its own keys and no other's.
const HOSTS: [&str; 2] = ["api.moonshot.ai", "api.moonshot.cn"];
/// The host of the Kimi Code plan.
const PLAN_HOST: &str = "api.kimi.com";

words! {
    /// How a check came out.
    pub(crate) State, "state" {
        /// As it should be.
        Good = "ok",
        /// Worth knowing; omk works.
        Warning = "warning",
        /// Something does not work.
        Failed = "error",
    }
}

/// One line.
#[derive(Serialize)]
struct Check {
    check: &'static str,
    state: State,
    detail: String,
    hint: Option<String>,
    /// It was wrong, and `--fix` changed that.
    fixed: bool,
}

/// An agent that is installed.
#[derive(Serialize)]
struct AgentReport {
    path: String,
    agent: Option<&'static str>,
    version: Option<String>,
    protocol: Option<&'static str>,
    starts: bool,
    start_ms: Option<u64>,
    reads: Option<&'static str>,
}

/// The JSON document `omk.doctor/1`. Fields are only ever added.
#[derive(Default, Serialize)]
struct Report {
    checks: Vec<Check>,
    agents: Vec<AgentReport>,
}

impl Report {
    fn add(&mut self, check: &'static str, state: State, detail: impl Into<String>) -> Added<'_> {
        self.checks.push(Check {
            check,
            state,
            detail: detail.into(),
            hint: None,
            fixed: false,
        });
        Added(self)
    }

    fn failure(&mut self, check: &'static str, failure: Failure) {
        let found = self.add(check, State::Failed, failure.detail);
        if !failure.hints.is_empty() {
            found.hint(failure.hints.join("; "));
        }
    }
}

/// The line that was added last.
struct Added<'a>(&'a mut Report);

impl Added<'_> {
    /// How to fix it.
    fn hint(self, hint: impl Into<String>) {
        if let Some(check) = self.0.checks.last_mut() {
            check.hint = Some(hint.into());
        }
    }

    fn fixed(self) {
        if let Some(check) = self.0.checks.last_mut() {
            check.fixed = true;
        }
    }
}

fn run(mut invocation: Invocation, env: &mut Env) -> Result<Exit, Failure> {
    let mut report = Report::default();
    // Elsewhere a broken config file ends the run; here it is what was asked about.
    let configured = config::fill(&TABLE, &mut invocation, env);
    let low = &invocation.low;
    env.deadline = Deadline::new(env.started, low.deadline);
    agents(low, env, &mut report)?;
    service(low, env, &mut report);
    network_settings(env, &mut report);
    books(low, env, &mut report);
    budgets(env, &mut report);
    price_list(low, env, &mut report);
    match configured.and_then(|()| config::check(&TABLE, env)) {
        Ok(Some(path)) => {
            report.add("config", State::Good, escape_os(path));
        }
        Ok(None) => {
            report.add("config", State::Good, "no config file, which is fine");
        }
        Err(failure) => report.failure("config", failure),
    }
    completions(low, env, &mut report);
    manual(env, &mut report);
    confinement(env, &mut report);
    show(low, env, &report)
}

fn show(low: &LowArgs, env: &mut Env, report: &Report) -> Result<Exit, Failure> {
    let count = |state| {
        report
            .checks
            .iter()
            .filter(|check| check.state == state)
            .count()
    };
    let (failed, warnings) = (count(State::Failed), count(State::Warning));
    let failure = (failed > 0).then(|| {
        let verb = if failed == 1 { "check" } else { "checks" };
        Failure::new(Exit::Failed, "doctor", format!("{failed} {verb} failed"))
    });
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if low.json {
        env.output
            .document("omk.doctor/1", exit, report, failure.as_ref())?;
        return Ok(exit);
    }
    let mut table = Table::new(vec![
        ("", Align::Left),
        ("check", Align::Left),
        ("found", Align::Left),
    ]);
    for check in &report.checks {
        let state = match check.fixed {
            true => "fixed",
            false => check.state.name(),
        };
        table.row(vec![
            state.to_string(),
            check.check.to_string(),
            escape(&check.detail).into_owned(),
        ]);
        if let Some(hint) = &check.hint {
            let hint = format!("fix: {}", escape(hint));
            table.row(vec![String::new(), String::new(), hint]);
        }
    }
    env.output.print(&table.render())?;
    let summary = match (failed, warnings) {
        (0, 0) => "everything is in place".to_string(),
        _ => format!("{failed} failed, {warnings} to look at"),
    };
    env.output.print(&format!("{summary}\n"))?;
    Ok(exit)
}

/// The agents on the path.
fn agents(low: &LowArgs, env: &Env, report: &mut Report) -> Result<(), Failure> {
    let found = peer::installed(low.ask.kimi.as_deref(), env);
    if found.is_empty() {
        let has_key = peer::key(env).is_ok_and(|key| key.is_some());
        let state = if has_key { State::Good } else { State::Warning };
        let check = report.add("agent", state, "no agent on the path");
        if !has_key {
            check.hint("npm install -g @moonshot-ai/kimi-code, then run `kimi` once to log in; or set MOONSHOT_API_KEY".to_string());
        }
    }
    for path in found {
        env.deadline.check("looking at agents")?;
        let shown = escape_os(&path);
        let agent = match peer::ask_version(&path, env.deadline, env) {
            Ok(agent) => agent,
            Err(failure) => {
                report.agents.push(AgentReport {
                    path: shown,
                    agent: None,
                    version: None,
                    protocol: None,
                    starts: false,
                    start_ms: None,
                    reads: None,
                });
                report.failure("agent", failure);
                continue;
            }
        };
        let protocol = match agent.dialect.protocol {
            Protocol::Wire => "wire",
            Protocol::Acp => "acp",
        };
        let started = peer::start(&agent, &path, env.deadline);
        let name = format!("{} {}", agent.dialect.name, agent.version);
        match &started {
            Ok(took) => {
                let reads = agent.dialect.reads;
                let detail = format!("{name} ({protocol}) starts in {took:.1?}; it {reads}");
                report.add("agent", State::Good, detail);
            }
            Err(why) => {
                let detail = format!("{name} at {shown} does not start: {why}");
                let check = report.add("agent", State::Failed, detail);
                check.hint(format!("run `{shown}` once by hand to see what it needs"));
            }
        }
        report.agents.push(AgentReport {
            path: shown,
            agent: Some(agent.dialect.name),
            version: Some(agent.version.clone()),
            protocol: Some(protocol),
            starts: started.is_ok(),
            start_ms: started
                .ok()
                .and_then(|took| u64::try_from(took.as_millis()).ok()),
            reads: Some(agent.dialect.reads),
        });
    }
    Ok(())
}

/// The key, and the host that it goes to.
fn service(low: &LowArgs, env: &Env, report: &mut Report) {
    let key = match peer::key(env) {
        Ok(key) => key,
        Err(failure) => return report.failure("key", failure),
    };
    let Some(key) = key else {
        report.add("key", State::Good, "none is set, so an agent is asked");
        return;
    };
    let base_url = low
        .base_url
        .clone()
        .unwrap_or_else(|| peer::default_url(&key).to_string());
    let host = peer::host(&base_url).to_string();
    if let Some(hint) = mismatch(&key, &host) {
        let check = report.add(
            "key",
            State::Failed,
            format!("the key is not one for {host}"),
        );
        check.hint(hint.to_string());
        return;
    }
    if let Err(failure) = network::check_encrypted(&base_url) {
        return report.failure("key", failure);
    }
    if low.doctor.offline {
        report.add(
            "key",
            State::Good,
            format!("set, for {host}; not tried (--offline)"),
        );
        return;
    }
    match ask(&base_url, &key, env) {
        Err(failure) => report.failure("key", failure),
        Ok(200..=299) => {
            report.add("key", State::Good, format!("{host} takes it"));
        }
        Ok(401 | 403) => {
            let check = report.add(
                "key",
                State::Failed,
                format!("{host} does not take the key"),
            );
            check.hint(match other_host(&host) {
                Some(other) if takes(other, &key, env) => {
                    format!("it is a key of {other}: set OMK_BASE_URL=https://{other}/v1")
                }
                _ => "set MOONSHOT_API_KEY to a key of this host; those of .ai, .cn and the coding plan differ".to_string(),
            });
        }
        Ok(status) => {
            let detail = format!("{host} answers HTTP {status} to a request for its models");
            let check = report.add("key", State::Warning, detail);
            check.hint("the address ends before /models, as in https://host/v1".to_string());
        }
    }
}

/// How a key does not belong to a host, by its form alone.
fn mismatch(key: &Secret, host: &str) -> Option<&'static str> {
    let is_plans = key.expose().starts_with(peer::PLAN_KEY);
    match (is_plans, host == PLAN_HOST) {
        (true, false) if HOSTS.contains(&host) => Some(
            "a key that begins with sk-kimi- is for https://api.kimi.com/coding/v1: unset OMK_BASE_URL and KIMI_BASE_URL",
        ),
        (false, true) => Some(
            "api.kimi.com takes keys that begin with sk-kimi-; for another unset OMK_BASE_URL and KIMI_BASE_URL",
        ),
        _ => None,
    }
}

/// The host that takes the keys which this one does not.
fn other_host(host: &str) -> Option<&'static str> {
    let [ai, cn] = HOSTS;
    match host {
        host if host == ai => Some(cn),
        host if host == cn => Some(ai),
        _ => None,
    }
}

fn takes(host: &str, key: &Secret, env: &Env) -> bool {
    ask(&format!("https://{host}/v1"), key, env).is_ok_and(|status| status == 200)
}

/// Asks for the models, which is free of charge, and gives the status.
fn ask(base_url: &str, key: &Secret, env: &Env) -> Result<u16, Failure> {
    let left = env
        .deadline
        .left()
        .map_or(PATIENCE, |left| left.min(PATIENCE));
    let deadline = Deadline::new(Instant::now(), Some(left));
    let url = format!("{}/models", base_url.trim_end_matches('/'));
    let response = network::http(env, deadline)?
        .get(&url, Some(key))
        .map_err(|error| network::no_answer(&error, &url, env.deadline))?;
    Ok(response.status)
}

/// The proxy and the certificates.
fn network_settings(env: &Env, report: &mut Report) {
    let named = |name: &str| {
        let lower = name.to_ascii_lowercase();
        [lower.as_str(), name]
            .iter()
            .any(|name| env.variable(name).is_some())
    };
    let proxies: Vec<&str> = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"]
        .into_iter()
        .filter(|name| named(name))
        .collect();
    match network::config(env, PATIENCE) {
        Err(failure) => report.failure("proxy", failure),
        Ok(_) => {
            let detail = match proxies.is_empty() {
                true => "none".to_string(),
                false => format!("by {}", proxies.join(", ")),
            };
            report.add("proxy", State::Good, detail);
        }
    }
    match network::http(env, Deadline::new(Instant::now(), None)) {
        Err(failure) => report.failure("certificates", failure),
        Ok(_) => {
            let detail = match env.variable("SSL_CERT_FILE") {
                Some(path) => format!("those in {}", escape_os(path)),
                None => "those built in".to_string(),
            };
            report.add("certificates", State::Good, detail);
        }
    }
}

/// The ledger.
fn books(low: &LowArgs, env: &Env, report: &mut Report) {
    let Some(path) = ledger::path(env) else {
        let check = report.add("ledger", State::Failed, "there is no place for one");
        check.hint("set HOME, XDG_STATE_HOME or OMK_LEDGER".to_string());
        return;
    };
    let shown = escape_os(&path);
    if let Err(error) = try_to_write(&path) {
        let check = report.add(
            "ledger",
            State::Failed,
            format!("{shown} cannot be written: {error}"),
        );
        check.hint("change its owner or mode, or set OMK_LEDGER to another directory".to_string());
        return;
    }
    let tracker = match ledger::open(env) {
        Ok(tracker) => tracker,
        Err(error) => {
            report.failure("ledger", trouble(error));
            return;
        }
    };
    let found = match tracker.sink().verify() {
        Ok(found) => found,
        Err(error) => {
            report.failure("ledger", trouble(error));
            return;
        }
    };
    let damaged = found.notes.damage.len();
    if damaged == 0 {
        let detail = format!("{shown}: writable, {} runs, no damage", found.records);
        report.add("ledger", State::Good, detail);
        return;
    }
    if low.doctor.fix {
        match tracker.sink().repair(env.clock.now()) {
            Ok((aside, _)) => {
                let detail = format!("{shown}: {} damaged files put aside", aside.len());
                report.add("ledger", State::Good, detail).fixed();
            }
            Err(error) => {
                report.failure("ledger", trouble(error));
            }
        }
        return;
    }
    let check = report.add(
        "ledger",
        State::Failed,
        format!("{shown}: {damaged} damaged files"),
    );
    check.hint("omk cost repair, or omk doctor --fix".to_string());
}

/// Makes a file in a directory, or in the nearest one above that is there, and removes it.
fn try_to_write(directory: &Path) -> std::io::Result<()> {
    let there = directory.ancestors().find(|path| path.is_dir());
    let path = there
        .unwrap_or(directory)
        .join(format!(".omk-doctor-{}.tmp", std::process::id()));
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(path)
}

/// The limits over several runs.
fn budgets(env: &Env, report: &mut Report) {
    match ledger::budgets(env) {
        Err(failure) => return report.failure("budgets", failure),
        Ok(budgets) if budgets.is_empty() => {
            report.add("budgets", State::Good, "none; OMK_BUDGET=5/day sets one");
        }
        Ok(budgets) => {
            let shown: Vec<String> = budgets.iter().map(ToString::to_string).collect();
            report.add("budgets", State::Good, shown.join(", "));
        }
    }
    match fleet::address(env) {
        Err(failure) => report.failure("fleet", failure),
        Ok(Some(_)) => {
            report.add(
                "fleet",
                State::Good,
                "set by OMK_FLEET; `omk cost fleet` shows it",
            );
        }
        Ok(None) => {}
    }
}

/// The prices in force, and how old they are.
fn price_list(low: &LowArgs, env: &Env, report: &mut Report) {
    let loaded = match prices::load(&[], env) {
        Ok(catalog) => catalog,
        Err(failure) => {
            let removed = low.doctor.fix
                && prices::snapshot(env).is_some_and(|path| fs::remove_file(path).is_ok());
            match removed {
                true => {
                    let detail = "the fetched list could not be read and was removed";
                    report.add("prices", State::Good, detail).fixed();
                }
                false => report.failure("prices", failure),
            }
            return;
        }
    };
    let fetched = loaded
        .models()
        .iter()
        .find_map(|model| match &model.origin {
            Origin::ModelsDev { fetched_at, .. } => parse_rfc3339(fetched_at).ok(),
            _ => None,
        });
    // The newest of those built in.
    let built = Catalog::builtin()
        .models()
        .iter()
        .filter_map(|model| parse_rfc3339(&format!("{}T00:00:00Z", model.as_of)).ok())
        .max();
    let Some(newest) = fetched.max(built) else {
        report.add("prices", State::Good, "built in");
        return;
    };
    let from = if fetched == Some(newest) {
        "fetched"
    } else {
        "built in"
    };
    let detail = format!("{from}, as of {}", format_date(newest));
    let age = env.clock.now().duration_since(newest).unwrap_or_default();
    if age > OLD_PRICES {
        let days = age.as_secs() / 86_400;
        let check = report.add(
            "prices",
            State::Warning,
            format!("{detail}: {days} days old"),
        );
        check.hint("omk models update".to_string());
        return;
    }
    report.add("prices", State::Good, detail);
}

/// The completion script of the user's shell.
fn completions(low: &LowArgs, env: &Env, report: &mut Report) {
    let named = env.variable("SHELL").map(PathBuf::from);
    let name = named
        .as_deref()
        .and_then(Path::file_name)
        .unwrap_or_default();
    let Some(shell) = name.to_str().and_then(|name| name.parse::<Shell>().ok()) else {
        report.add(
            "completions",
            State::Good,
            "no shell that has them, by SHELL",
        );
        return;
    };
    let Some(places) = script_places(shell, env) else {
        report.add("completions", State::Good, "no home to keep them in");
        return;
    };
    let catalog = Catalog::builtin();
    let served = catalog
        .models()
        .iter()
        .filter(|model| model.status != Status::Retired);
    let names: Vec<&str> = served.map(|model| &*model.id).collect();
    let wanted = script(&TABLE, shell, &names);
    let there = places
        .iter()
        .find_map(|path| Some((path, file::read_regular(path, LARGEST_SCRIPT).ok()?)));
    let own = places
        .first()
        .map(PathBuf::as_path)
        .unwrap_or(Path::new(""));
    let (state, detail, target) = match &there {
        Some((path, bytes)) if *bytes == wanted.as_bytes() => {
            let detail = format!("{} has them", escape_os(path));
            report.add("completions", State::Good, detail);
            return;
        }
        Some((path, _)) => (
            State::Warning,
            format!("{} is of another version", escape_os(path)),
            path.as_path(),
        ),
        None => (
            State::Warning,
            format!("not installed for {}", shell.name()),
            own,
        ),
    };
    if low.doctor.fix {
        match store(target, wanted.as_bytes()) {
            Ok(()) => {
                let detail = format!("written to {}", escape_os(target));
                report.add("completions", State::Good, detail).fixed();
            }
            Err(failure) => report.failure("completions", failure),
        }
        return;
    }
    let check = report.add("completions", state, detail);
    check.hint(format!(
        "omk completions {} > {}, or omk doctor --fix",
        shell.name(),
        escape_os(target)
    ));
}

/// Where a shell looks for a script, the user's own place first.
fn script_places(shell: Shell, env: &Env) -> Option<Vec<PathBuf>> {
    let home = PathBuf::from(env.variable("HOME")?);
    let data = env
        .variable("XDG_DATA_HOME")
        .map_or_else(|| home.join(".local/share"), PathBuf::from);
    let config = env
        .variable("XDG_CONFIG_HOME")
        .map_or_else(|| home.join(".config"), PathBuf::from);
    Some(match shell {
        Shell::Bash => vec![
            data.join("bash-completion/completions/omk"),
            "/usr/local/share/bash-completion/completions/omk".into(),
            "/usr/share/bash-completion/completions/omk".into(),
            "/etc/bash_completion.d/omk".into(),
        ],
        Shell::Zsh => vec![
            home.join(".zfunc/_omk"),
            "/usr/local/share/zsh/site-functions/_omk".into(),
            "/usr/share/zsh/site-functions/_omk".into(),
            "/usr/share/zsh/vendor-completions/_omk".into(),
        ],
        Shell::Fish => vec![
            config.join("fish/completions/omk.fish"),
            "/usr/local/share/fish/vendor_completions.d/omk.fish".into(),
            "/usr/share/fish/vendor_completions.d/omk.fish".into(),
        ],
    })
}

/// The manual.
fn manual(env: &Env, report: &mut Report) {
    let mut roots: Vec<PathBuf> = Vec::new();
    if let Some(paths) = env.variable("MANPATH") {
        roots.extend(std::env::split_paths(&paths));
    }
    if let Some(home) = env.variable("HOME") {
        roots.push(PathBuf::from(home).join(".local/share/man"));
    }
    roots.extend(["/usr/local/share/man", "/usr/local/man", "/usr/share/man"].map(PathBuf::from));
    let pages = roots
        .iter()
        .flat_map(|root| ["omk.1", "omk.1.gz"].map(|name| root.join("man1").join(name)));
    match pages.into_iter().find(|page| page.is_file()) {
        Some(page) => {
            report.add("manual", State::Good, escape_os(page));
        }
        None => {
            let check = report.add("manual", State::Warning, "not installed");
            check.hint(
                "copy the pages in man/ of the source; `omk help` has the same text".to_string(),
            );
        }
    }
}

/// What `--sandbox` needs.
fn confinement(env: &Env, report: &mut Report) {
    match sandbox::check(&env.variable("PATH").unwrap_or_default()) {
        Ok(path) => {
            report.add("sandbox", State::Good, format!("{} works", escape_os(path)));
        }
        Err(error) => {
            report
                .add("sandbox", State::Warning, error.detail)
                .hint(error.hint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::env::tests::world;

    #[test]
    fn a_key_and_its_host_are_held_against_each_other() {
        let wrong = |key: &str, host| mismatch(&Secret::new(key), host).is_some();
        assert!(wrong("sk-kimi-x", "api.moonshot.ai"));
        assert!(wrong("sk-kimi-x", "api.moonshot.cn"));
        assert!(wrong("sk-x", "api.kimi.com"));
        assert!(!wrong("sk-kimi-x", "api.kimi.com"));
        assert!(!wrong("sk-x", "api.moonshot.cn"));
        // A gateway of one's own may take any.
        assert!(!wrong("sk-kimi-x", "127.0.0.1:8080"));
        assert_eq!(other_host("api.moonshot.ai"), Some("api.moonshot.cn"));
        assert_eq!(other_host("api.moonshot.cn"), Some("api.moonshot.ai"));
        assert_eq!(other_host("api.kimi.com"), None);
    }

    #[test]
    fn prices_grow_old() {
        let (mut env, ..) = world(&[], b"");
        for (date, state) in [
            ("2026-11-25T00:00:00Z", State::Good),
            ("2030-01-01T00:00:00Z", State::Warning),
        ] {
            env.clock = crate::runtime::clock::Clock::Fixed(parse_rfc3339(date).unwrap());
            let mut report = Report::default();
            price_list(&LowArgs::default(), &env, &mut report);
            assert_eq!(report.checks[0].state, state, "{}", report.checks[0].detail);
        }
    }

    #[test]
    fn a_shell_has_a_place_of_the_users_own_first() {
        let (env, ..) = world(&[("HOME", "/nonexistent/u")], b"");
        for shell in Shell::ALL {
            let places = script_places(*shell, &env).unwrap();
            assert!(places[0].starts_with("/nonexistent/u"), "{places:?}");
        }
    }
}
