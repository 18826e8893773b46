//! `omk cost push`: runs to an OpenTelemetry collector, each once.
//!
//! What a collector took is marked after every request, in `pushed` within the ledger's directory: for each address a file
//! of run names for each month. A push that is killed between the answer and the mark sends at most one request's runs
//! again, and as the same spans. The ledger is read as it is sent: in memory are the runs of one request and the names of
//! those of one month. A collector that is busy is waited for as OTLP asks: only 429, 502, 503 and 504 are tried
//! again, after `Retry-After` or growing waits; spans that it rejects are reported and never sent again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::cli::commands::cost::{Ledger, counted, open, trouble};
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared};
use crate::cli::flags::{LowArgs, UsageError, value};
use crate::cli::network;
use crate::cli::store::store;
use crate::cost::fingerprint::fingerprint;
use crate::cost::otlp::{self, Taken};
use crate::cost::record::{SessionCost, SessionStatus};
use crate::cost::view::Period;
use crate::runtime::clock::{SystemTimer, Timer, format_rfc3339};
use crate::runtime::file;
use crate::runtime::secret::Secret;
use crate::runtime::text::{escape, escape_os, percent_decoded, truncate};
use crate::transport::http::{Http, TransportError};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost push",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "send runs to an OpenTelemetry collector",
    doc: "Sends every run that is over and was not sent before, as a span with the attributes of the GenAI semantic \
conventions, over OTLP/HTTP with JSON. For each address omk remembers what arrived. A busy collector is retried with \
its Retry-After or growing waits. After that the exit code is 75, and the next push continues where this one ended. \
The ids of a span follow from the id of the run, so a collector can recognize a span that is sent twice.",
    examples: &[(
        "omk cost push --otlp http://collector.example:4318",
        "Sends what is new.",
    )],
    flags: &[FlagGroup {
        title: "",
        flags: &[&OTLP, &DEADLINE, &shared::JSON, &shared::QUIET],
    }],
    run: |invocation, env| run(invocation.low, env),
};

static DEADLINE: Flag = Flag {
    doc: "End the run when it takes longer than this. Such as 500ms, 30s, 2m or 1h, up to 1000h; the exit code is 124. The default \
is 5m.",
    ..shared::DEADLINE
};

static OTLP: Flag = Flag {
    long: "otlp",
    takes: Takes::Value("URL", |low, v| {
        low.cost.otlp = Some(value::base_url(v)?);
        Ok(())
    }),
    doc: "Address of the collector. /v1/traces is added where it does not end so; the default is \
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it stands, else OTEL_EXPORTER_OTLP_ENDPOINT.",
    ..Flag::BLANK
};

/// Runs in one request: about a megabyte.
const BATCH: usize = 500;
/// Attempts at one request.
const ATTEMPTS: u32 = 5;
/// The wait before the second one; each later one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long a push takes at most where no `--deadline` says otherwise.
const LONGEST: Duration = Duration::from_secs(300);
/// What every file of marks begins with.
const MARK: &str = "omk-ledger-pushed 1";
/// The largest file of marks: a month of a million runs.
const LARGEST_MARKS: u64 = 40 * 1024 * 1024;

/// The JSON document `omk.cost-push/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    url: &'a str,
    sent: u64,
    requests: u64,
    /// Of the sent ones: those that the collector did not keep.
    rejected: u64,
    /// Runs that were sent before.
    known: u64,
    /// Runs that are open, and wait.
    open: u64,
}

/// Sends what is new.
pub(super) fn run(low: LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let url = endpoint(low.cost.otlp.as_deref(), env)?;
    let headers = headers(env)?;
    let deadline = Deadline::new(env.started, Some(low.deadline.unwrap_or(LONGEST)));
    let ledger = open(env)?;
    let directory = ledger.sink().path().join("pushed");
    let mut push = Push {
        http: network::http(env, deadline)?,
        url: &url,
        headers,
        deadline,
        timer: SystemTimer::default(),
        marks: Marks::new(directory.join(fingerprint([url.as_str()]))),
        batch: Vec::new(),
        known: 0,
        open: 0,
        sent: 0,
        requests: 0,
        rejected: 0,
        warnings: Vec::new(),
    };
    let outcome = push.all(&ledger);
    let Push {
        known,
        open,
        sent,
        requests,
        rejected,
        warnings,
        ..
    } = push;
    for warning in warnings {
        env.output.warning(warning);
    }
    let failure = outcome.err().or_else(|| {
        (rejected > 0).then(|| {
            let detail = format!(
                "the collector did not keep {rejected} of {}",
                counted(sent, "run")
            );
            Failure::new(Exit::Failed, "otlp", detail)
                .hint("they are not sent again; see the collector's log")
        })
    });
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if !low.json {
        let already = if known > 0 {
            format!(", {known} known there")
        } else {
            String::new()
        };
        env.output.print(&format!(
            "{} sent to {}{already}\n",
            counted(sent, "run"),
            network::shown(&url)
        ))?;
    }
    if let Some(failure) = &failure {
        env.output.failure(failure);
    }
    if low.json {
        env.output.document(
            "omk.cost-push/1",
            exit,
            &Document {
                url: network::shown(&url),
                sent,
                requests,
                rejected,
                known,
                open,
            },
            failure.as_ref(),
        )?;
    }
    Ok(exit)
}

/// Where to send to.
fn endpoint(given: Option<&str>, env: &Env) -> Result<String, Failure> {
    if let Some(url) = given {
        return Ok(traces(url));
    }
    for (name, is_base) in [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", false),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", true),
    ] {
        if let Some(url) = env.variable(name) {
            let url = value::base_url(&url).map_err(|error| {
                Failure::new(Exit::Config, "configuration", format!("{name}: {error}"))
            })?;
            return Ok(if is_base { traces(&url) } else { url });
        }
    }
    Err(UsageError::new("there is no collector to send to")
        .hint("--otlp http://localhost:4318 names one, and so does OTEL_EXPORTER_OTLP_ENDPOINT")
        .into())
}

fn traces(url: &str) -> String {
    let url = url.trim_end_matches('/');
    match url.ends_with("/v1/traces") {
        true => url.to_string(),
        false => format!("{url}/v1/traces"),
    }
}

/// The headers of `OTEL_EXPORTER_OTLP_HEADERS`. A message never shows them: one of them is a key.
fn headers(env: &Env) -> Result<Vec<(String, Secret)>, Failure> {
    let Some(text) = env.variable("OTEL_EXPORTER_OTLP_HEADERS") else {
        return Ok(Vec::new());
    };
    let wrong = |why: &str| {
        Failure::new(
            Exit::Config,
            "configuration",
            format!("OTEL_EXPORTER_OTLP_HEADERS: {why}"),
        )
        .hint("write name=value,name=value with %20 for a blank")
    };
    let text = text.into_string().map_err(|_| wrong("it is not UTF-8"))?;
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong("a part has no ="))?;
            let value = percent_decoded(value.trim())
                .ok_or_else(|| wrong("a % is not followed by two hexadecimal digits"))?;
            Ok((name.trim().to_string(), Secret::new(value)))
        })
        .collect()
}

/// The month of a run's beginning.
fn month(started: &str) -> &str {
    started.get(..7).unwrap_or("0000-00")
}

/// Which runs a collector has, as far as they are of one month: the ledger is read in about the order of time, and all of its
/// names at once would be as many as it has runs.
struct Marks {
    directory: PathBuf,
    month: String,
    ids: BTreeSet<String>,
}

impl Marks {
    fn new(directory: PathBuf) -> Marks {
        Marks {
            directory,
            month: String::new(),
            ids: BTreeSet::new(),
        }
    }

    fn path(&self, month: &str) -> PathBuf {
        self.directory.join(format!("{month}.ids"))
    }

    /// Reads the marks of a month, unless they are at hand.
    fn turn_to(&mut self, month: &str) -> Result<(), Failure> {
        if self.month == month {
            return Ok(());
        }
        let path = self.path(month);
        let text = match file::read_regular(&path, LARGEST_MARKS) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!("{MARK}\n"),
            Err(error) => return Err(unreadable(&path, &error.to_string())),
        };
        let mut lines = text.lines();
        if lines.next() != Some(MARK) {
            return Err(unreadable(
                &path,
                "it is of another version, or no file of marks",
            ));
        }
        self.ids = lines.map(str::to_string).collect();
        self.month = month.to_string();
        Ok(())
    }

    /// Adds runs, and writes the months that they are of.
    fn add(&mut self, runs: &[SessionCost]) -> Result<(), Failure> {
        let mut runs = runs.iter().peekable();
        while let Some(run) = runs.next() {
            let of = month(&run.started_at);
            self.turn_to(of)?;
            self.ids.insert(run.id.clone());
            if runs
                .peek()
                .is_some_and(|next| month(&next.started_at) == of)
            {
                continue;
            }
            let mut text = format!("{MARK}\n");
            for id in &self.ids {
                text.push_str(id);
                text.push('\n');
            }
            store(&self.path(of), text.as_bytes())?;
        }
        Ok(())
    }
}

fn unreadable(path: &Path, why: &str) -> Failure {
    let detail = format!(
        "cannot read `{}`, where it is marked what was sent: {why}",
        escape_os(path)
    );
    Failure::new(Exit::Io, "ledger", detail)
        .hint("without it runs would be sent twice; moving it away sends all of them again")
}

/// A push under way.
struct Push<'a> {
    http: Http,
    url: &'a str,
    headers: Vec<(String, Secret)>,
    deadline: Deadline,
    timer: SystemTimer,
    marks: Marks,
    batch: Vec<SessionCost>,
    known: u64,
    open: u64,
    sent: u64,
    requests: u64,
    rejected: u64,
    warnings: Vec<String>,
}

impl Push<'_> {
    /// Sends every run that is over and not marked. After a failure the rest is only counted.
    fn all(&mut self, ledger: &Ledger) -> Result<(), Failure> {
        let mut outcome = Ok(());
        // One month follows the other; the name of each is made once for a day.
        let (mut day, mut of_day) = (None, String::new());
        let read = ledger.report_records(Period::default(), &mut |run, whole| {
            if run.status == SessionStatus::Open {
                self.open += 1;
                return ControlFlow::Continue(());
            }
            if day != Some(run.day()) {
                day = Some(run.day());
                // In UTC, as the record has it.
                of_day = month(&format_rfc3339(run.started())).to_string();
            }
            if let Err(failure) = self.marks.turn_to(&of_day) {
                outcome = Err(failure);
                return ControlFlow::Break(());
            }
            if self.marks.ids.contains(run.id) {
                self.known += 1;
            } else if outcome.is_ok() {
                self.batch.extend(whole());
                if self.batch.len() >= BATCH {
                    outcome = self.flush();
                }
            }
            ControlFlow::Continue(())
        });
        self.warnings.extend(read.map_err(trouble)?.lines());
        outcome?;
        self.flush()
    }

    /// Sends the runs that have gathered, and marks them.
    fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let body = serde_json::to_vec(&otlp::request(&batch))
            .map_err(|error| Failure::new(Exit::Failed, "otlp", error.to_string()))?;
        let taken = self.send(&body)?;
        self.sent += batch.len() as u64;
        self.rejected += taken.rejected;
        if !taken.message.is_empty() {
            self.warnings.push(format!(
                "the collector says: {}",
                escape(&truncate(&taken.message, 500))
            ));
        }
        self.marks.add(&batch)
    }

    /// Sends one request, as often as it may be sent.
    fn send(&mut self, body: &[u8]) -> Result<Taken, Failure> {
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            self.deadline.check("sending runs to the collector")?;
            let left = self.deadline.left().unwrap_or(network::TIMEOUT);
            self.http.set_timeout(left.min(network::TIMEOUT));
            self.requests += 1;
            let (failure, asked) = match self.http.post_json_with(self.url, &self.headers, body) {
                Ok(response) if response.is_success() => return Ok(otlp::answer(&response.body)),
                Ok(response) => {
                    let Err(mut failure) = network::check_status(&response, self.url) else {
                        return Ok(otlp::answer(&response.body));
                    };
                    let said = String::from_utf8_lossy(&response.body);
                    let said = said.trim();
                    if !said.is_empty() {
                        failure
                            .detail
                            .push_str(&format!("; it says: {}", truncate(said, 300)));
                    }
                    if !matches!(response.status, 429 | 502 | 503 | 504) {
                        return Err(failure);
                    }
                    (failure, response.retry_after())
                }
                Err(error) => {
                    let failure = network::no_answer(&error, self.url, self.deadline);
                    let may_pass = matches!(
                        error,
                        TransportError::Timeout(_)
                            | TransportError::Silence { .. }
                            | TransportError::Connect { .. }
                            | TransportError::Io { .. }
                    );
                    if !may_pass || failure.exit == Exit::Deadline {
                        return Err(failure);
                    }
                    (failure, None)
                }
            };
            let pause = asked
                .unwrap_or_else(|| wait.mul_f64(1.0 + f64::from(self.timer.jitter()) / 2000.0));
            let fits = self.deadline.left().is_none_or(|left| pause < left);
            if attempt >= ATTEMPTS || !fits {
                return Err(failure);
            }
            self.timer.sleep(pause);
            wait *= 2;
        }
        Err(Failure::new(
            Exit::Temporary,
            "network",
            "the collector did not answer",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::env::tests::world;

    #[test]
    fn an_address_is_a_base_unless_it_names_the_traces() {
        let of = |variables: &[(&str, &str)], given| endpoint(given, &world(variables, b"").0);
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b/x");
        for (variables, given, expected) in [
            (&[][..], Some("http://c"), "http://c/v1/traces"),
            (&[base], Some("http://c/v1/traces"), "http://c/v1/traces"),
            (&[base], None, "http://a:4318/v1/traces"),
            (&[base, own], None, "http://b/x"),
        ] {
            assert_eq!(of(variables, given).unwrap(), expected);
        }
        assert_eq!(of(&[], None).unwrap_err().exit, Exit::Usage);
        let wrong = of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "a:4318")], None);
        assert_eq!(wrong.unwrap_err().exit, Exit::Config);
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let of = |text: &str| headers(&world(&[("OTEL_EXPORTER_OTLP_HEADERS", text)], b"").0);
        let read = of("authorization=Bearer%20k%3D1, x-team = a").unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        assert_eq!(read, [("authorization", "Bearer k=1"), ("x-team", "a")]);
        for wrong in ["secret", "a=secret%2", "a=secret%zz"] {
            let failure = of(wrong).unwrap_err();
            assert!(!failure.detail.contains("secret"), "{failure:?}");
        }
    }
}
