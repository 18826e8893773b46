//! Asking a model for a command: the peer, the limits, and every step in the ledger.
//!
//! `omk prompt` and `omk plan` ask through one [`Asker`]. It settles the flags they share, chooses the peer, holds each
//! request against the limits before anything is sent, keeps the ledger's record of the run up to date while it runs, and
//! accounts for all its requests together. It is a client itself, so that callers need not know any of this.
//! It refuses to print.

mod client;
pub(crate) mod desk;
mod failure;
mod node;
pub(crate) mod peer;
mod report;
pub(crate) mod screen;
pub(crate) mod terminal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::catalog::money::Usd;
use crate::catalog::{Catalog, Model, Price};
use crate::cli::ask::client::Conversation;
use crate::cli::ask::peer::Peer;
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::Thinking;
use crate::cli::flags::{LowArgs, UsageError};
use crate::cli::fleet;
use crate::cli::history::expected_outputs;
use crate::cli::prices;
use crate::cost::budget::TagFilter;
use crate::cost::file_sink::{Fold, JsonFileCostSink};
use crate::cost::history::Expected;
use crate::cost::record::{Charge, CostKind, PriceUsed, SessionStatus, SessionType};
use crate::cost::tracker::CostTracker;
use crate::fleet::member::Member;
use crate::llm::client::{LlmClient, LlmClientConfig, Observer, Permissions, Request};
use crate::llm::error::LlmError;
use crate::llm::retry::RetryPolicy;
use crate::llm::secrets;
use crate::llm::types::{LlmResponse, TokenBudget};
use crate::run::fleet::Membership;
use crate::run::{LONGEST, Limits, Run, RunConfig};
use crate::runtime::clock::parse_rfc3339;
use crate::transport::Transport;
use crate::transport::sandbox::Mode;

pub(crate) use crate::cli::ask::client::destination;
use crate::cli::ask::failure::failure;
pub(crate) use crate::cli::ask::report::{ResultReport, TurnReport};

/// The model of a service when neither a flag nor a variable nor the config file names one.
pub(crate) const DEFAULT_MODEL: &str = "kimi-k3";
/// Runs of others that one run delivers to the fleet when it is over.
const DELIVERED_AT_ONCE: usize = 16;

/// What was said about how to ask, by any command that asks.
#[derive(Debug)]
pub(crate) struct AskArgs {
    /// The model, and whether the agent reads it from the environment by itself.
    pub(crate) model: Option<(String, bool)>,
    /// `None` to choose by what there is.
    pub(crate) transport: Option<Transport>,
    pub(crate) kimi: Option<PathBuf>,
    /// The address, and whether it alone means HTTP.
    pub(crate) base_url: Option<(String, bool)>,
    pub(crate) price: Option<Price>,
    pub(crate) price_files: Vec<PathBuf>,
    pub(crate) strict_prices: bool,
    pub(crate) max_usd: Option<Usd>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) deadline: Deadline,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) allow: Permissions,
    pub(crate) sandbox: Option<Mode>,
    pub(crate) max_repeats: Option<u32>,
    pub(crate) max_steps: Option<u32>,
    /// Directories to work in beside the work directory.
    pub(crate) add_dir: Vec<PathBuf>,
    pub(crate) insecure: bool,
    pub(crate) allow_secrets: bool,
    pub(crate) thinking: Option<Thinking>,
    pub(crate) conversation: Option<String>,
    pub(crate) record: Option<PathBuf>,
    pub(crate) replay: Option<PathBuf>,
    pub(crate) name: Option<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) fleet_timeout: Option<Duration>,
}

impl AskArgs {
    /// Takes the shared flags out of the arguments.
    ///
    /// # Errors
    ///
    /// Arguments that exclude each other.
    pub(crate) fn resolve(
        low: &mut LowArgs,
        given: &[&str],
        env: &Env,
    ) -> Result<AskArgs, UsageError> {
        let ask = &mut low.ask;
        let mut models = std::mem::take(&mut low.model);
        if models.len() > 1 {
            return Err(
                UsageError::new("several models were given; `omk prompt` asks one")
                    .hint("`omk estimate` compares several"),
            );
        }
        let ambient = !given.contains(&"model")
            && env.variable("OMK_MODEL").is_none()
            && env.variable("KIMI_MODEL_NAME").is_some();
        let chosen = given.contains(&"base-url")
            || env.variable("OMK_BASE_URL").is_some()
            || env.variable("KIMI_BASE_URL").is_none();
        if ask.record.is_some() && ask.replay.is_some() {
            return Err(UsageError::conflict("--record", "--replay"));
        }
        let transport = ask.transport.flatten();
        if transport == Some(Transport::Http) {
            for (flag, is_given) in [
                ("--kimi", given.contains(&"kimi")),
                ("--allow", !ask.allow.is_empty()),
                ("--sandbox", ask.sandbox.is_some()),
                ("--max-steps", ask.max_steps.is_some()),
                ("--add-dir", !ask.add_dir.is_empty()),
                ("--ask", ask.asks),
            ] {
                if is_given {
                    return Err(UsageError::conflict(flag, "--transport http")
                        .hint("a service has no tools; agents do"));
                }
            }
        } else if let Some(agents) = transport
            && given.contains(&"base-url")
        {
            return Err(
                UsageError::conflict("--base-url", &format!("--transport {agents}"))
                    .hint("an agent knows its own services"),
            );
        }
        Ok(AskArgs {
            model: models.pop().map(|model| (model, ambient)),
            transport,
            kimi: ask.kimi.take(),
            base_url: low.base_url.take().map(|url| (url, chosen)),
            price: low.price.take(),
            price_files: std::mem::take(&mut low.price_file),
            strict_prices: low.strict_prices,
            max_usd: low.max_usd,
            max_tokens: low.max_tokens,
            deadline: Deadline::new(env.started, Some(low.deadline.unwrap_or(LONGEST))),
            idle_timeout: ask.idle_timeout,
            retries: ask.retries,
            allow: Permissions::of(std::mem::take(&mut ask.allow)),
            sandbox: ask.sandbox,
            max_repeats: ask.max_repeats,
            max_steps: ask.max_steps,
            add_dir: std::mem::take(&mut ask.add_dir),
            insecure: ask.insecure,
            allow_secrets: ask.allow_secrets,
            thinking: ask.thinking,
            conversation: ask.conversation.take(),
            record: ask.record.take(),
            replay: ask.replay.take(),
            name: ask.name.take(),
            tags: std::mem::take(&mut ask.tag),
            fleet_timeout: low.cost.fleet_timeout,
        })
    }

    /// Refuses a text with a key in it, unless the user wants it sent.
    ///
    /// # Errors
    ///
    /// Exit 65, naming where the key stands and what it is, never the key.
    pub(crate) fn check_secrets(&self, name: &str, text: &str) -> Result<(), Failure> {
        match secrets::find(text) {
            Some(found) if !self.allow_secrets => {
                let detail = format!("{name}, line {}: contains a {}", found.line, found.kind);
                Err(Failure::new(Exit::BadInput, "secret", detail)
                    .hint("nothing was sent; remove it, or use --allow-secrets to send it"))
            }
            _ => Ok(()),
        }
    }
}

/// The run of a command that asks, with the conversation that it is part of.
pub(crate) struct Asker {
    run: Run<JsonFileCostSink>,
    conversation: Conversation,
    deadline: Deadline,
    idle_timeout: Duration,
    /// What earlier runs left for the fleet is delivered by this.
    courier: Option<Member>,
    now: SystemTime,
}

impl Asker {
    /// Chooses the peer and prepares the run. Nothing is sent or started yet but an agent's `--version`.
    ///
    /// # Errors
    ///
    /// There is no peer to ask, or the price that a limit needs is not known.
    pub(crate) fn open(
        args: &AskArgs,
        session_type: SessionType,
        env: &mut Env,
    ) -> Result<Asker, Failure> {
        let mut catalog = prices::load(&args.price_files, env)?;
        let (peer, player) = client::peer(args, env)?;
        if !peer.is_agent() {
            if args.allow != Permissions::Nothing {
                return Err(not_over_http("--allow", "it has no tools"));
            }
            if args.sandbox.is_some() {
                return Err(not_over_http("--sandbox", "it runs nothing here"));
            }
            if args.max_steps.is_some() {
                return Err(not_over_http("--max-steps", "it answers in one"));
            }
            if !args.add_dir.is_empty() {
                return Err(not_over_http("--add-dir", "it works in no directory"));
            }
        }
        let configured = client::configured_model(&peer, args, env);
        let requested = match (&args.model, &peer) {
            (Some((model, _)), _) => Some(model.clone()),
            (None, Peer::Http { .. }) => Some(DEFAULT_MODEL.to_string()),
            (None, Peer::Tape { model, .. }) => Some(model.clone()),
            (None, Peer::Agent { .. }) => configured.clone(),
        };
        // A name in an agent's configuration may stand for any model. Where that is not known, only the default's vocabulary
        // and window can be used.
        let name = configured.as_deref().or(requested.as_deref());
        let name = name.unwrap_or(DEFAULT_MODEL);
        if let Some(price) = &args.price {
            catalog.set_price(name, price.clone());
        }
        let model = match &peer {
            Peer::Http { base_url, .. } => catalog.resolve_at(name, peer::host(base_url)),
            _ => catalog.resolve(name),
        };
        let model = model.into_owned();
        let priced = (requested.is_some() || args.price.is_some()) && model.price.is_some();
        if !priced && (args.strict_prices || args.max_usd.is_some()) {
            return Err(unpriced(&catalog, requested.as_deref(), &model, args));
        }
        let mut config = LlmClientConfig::new(model.clone());
        config.timeout = args.deadline.left().unwrap_or(LONGEST);
        if let Some(idle) = args.idle_timeout {
            config.idle_timeout = idle;
        }
        if let Some(max_repeats) = args.max_repeats {
            config.max_repeats = max_repeats;
        }
        config.max_steps = args.max_steps;
        if let Some(retries) = args.retries {
            config.retry = RetryPolicy {
                max_retries: retries,
                ..RetryPolicy::default()
            };
        }
        let idle_timeout = config.idle_timeout;
        let is_named = requested.is_some() && args.replay.is_none();
        let expected = is_named.then(|| expected(args, &model.id, env)).flatten();
        let run = run_config(args, session_type, &peer, (requested, catalog, model), env)?;
        let run = in_fleet(run.expected(expected), args, env)?;
        let courier = match args.replay {
            Some(_) => None,
            None => fleet::member(args.fleet_timeout, env)?,
        };
        let (client, conversation) =
            Conversation::begin(args, (peer, player), config, run.id(), env)?;
        let ledger = crate::cli::ledger::open(env).map(|tracker| tracker.into_sink());
        let mut run = Run::with_ledger(client, run, ledger);
        conversation.introduce(&mut run);
        Ok(Asker {
            run,
            conversation,
            deadline: args.deadline,
            idle_timeout,
            courier,
            now: env.clock.now(),
        })
    }

    /// How long the peer may be silent, if it gives no sign of life in between as agents do.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let idle = self.idle_timeout;
        (!self.run.is_agent()).then(|| self.deadline.left().map_or(idle, |left| left.min(idle)))
    }

    /// The run so far.
    pub(crate) fn so_far(&self) -> &Run<JsonFileCostSink> {
        &self.run
    }

    /// The rates in force, once it is known whose.
    pub(crate) fn price(&self) -> Option<Price> {
        self.run.price().cloned()
    }

    /// Closes the record: how the run ended, and with which exit code. Returns what could not be written.
    pub(crate) fn close(&mut self, status: SessionStatus, exit: Exit) -> Option<Failure> {
        let conversation = self.conversation.end(&self.run);
        let lost = self.run.close(status, exit.code()).map(|error| {
            let id = &self.run.record().id;
            let detail = format!(
                "the run {id} is not in the ledger as it should be: {}",
                error.detail
            );
            let hint = error
                .hint
                .unwrap_or_else(|| "set OMK_LEDGER to a directory that can be written".to_string());
            Failure::new(Exit::Io, "ledger", detail).hint(hint)
        });
        conversation.err().or(lost)
    }

    /// What the caller should know beside the answer.
    pub(crate) fn warnings(&self, is_answered: bool) -> Vec<String> {
        let run = &self.run;
        let mut warnings = run.progress().warnings.clone();
        warnings.extend(run.fleet_warning().map(str::to_string));
        let record = run.record();
        if is_answered && record.price.is_none() {
            let name = record.model.best().unwrap_or("the agent's model");
            warnings.push(format!(
                "no price of {name} is known, so the cost is not; --model names it, --price or a --price-file gives the rates"
            ));
        } else if is_answered && run.known_usd().is_none() {
            let most = match run.first_bound_usd() {
                Some(most) => format!(": at most {most}"),
                None => String::new(),
            };
            warnings.push(format!(
                "the usage was not reported, so the cost is not known{most}"
            ));
        }
        if record.kind == CostKind::Assumed {
            warnings.push(format!(
                "omk does not know who bills at {}: the cost is that of the maker's list price; `omk cost settle {} --usd X` \
                 records what was billed, and a --price-file with \"host\" gives the rates",
                record.peer, record.id
            ));
        }
        // What costs nothing is not billed by old rates.
        let used = record
            .price
            .as_ref()
            .filter(|_| run.charged() != Charge::No);
        warnings.extend(used.and_then(|used| stale(used, self.now)));
        if let (Some(asked), Some(answered)) = (&record.model.requested, &record.model.reported)
            && asked != answered
            && record.transport == Some(Transport::Http)
        {
            warnings.push(format!("{asked} was asked, and {answered} answered"));
        }
        warnings
    }

    /// Keeps the ledger in order once the answer is out, so that the answer does not wait for it.
    pub(crate) fn tidy(&mut self) {
        if let Some(courier) = self
            .courier
            .as_mut()
            .filter(|courier| courier.has_waiting())
            && let Some(ledger) = self.run.ledger()
        {
            // Whatever it cannot deliver waits for the next run.
            let mut ledger = CostTracker::new(ledger.clone());
            let _ = courier.sync(&mut ledger, DELIVERED_AT_ONCE, std::time::SystemTime::now());
        }
        if let Some(ledger) = self.run.ledger() {
            // A later run does what this one could not, and `omk cost` says what is wrong.
            let _ = ledger.fold(Fold::IfDue);
        }
    }

    /// Whether the agent may have failed to start because it is another one than it was taken for.
    pub(crate) fn may_be_another_agent(&self, error: &LlmError) -> bool {
        self.conversation.may_be_another(error)
    }

    /// Whether it is, by what it says now. The verdict that is kept is renewed.
    pub(crate) fn is_another_agent(&self, env: &Env) -> bool {
        self.conversation.is_another(self.deadline, env)
    }

    /// The failure that an error of this run is.
    pub(crate) fn failure(&self, error: &LlmError) -> Failure {
        let error = &self.conversation.explain(error);
        explain(error, &self.run, self.deadline)
    }
}

/// The failure that an error of a run is.
pub(crate) fn explain(
    error: &LlmError,
    run: &Run<JsonFileCostSink>,
    deadline: Deadline,
) -> Failure {
    if let Some(refusal) = run.fleet_refusal() {
        return fleet::refused(refusal);
    }
    let failure = failure(error, &run.peer(), run.is_agent(), deadline);
    match run.remedy() {
        Some(remedy) => failure.hint(remedy),
        None => failure,
    }
}

impl LlmClient for Asker {
    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        self.run.run(request, budget, observer)
    }
}

/// The run with the budget of its fleet, where there is one.
fn in_fleet(run: RunConfig, args: &AskArgs, env: &Env) -> Result<RunConfig, Failure> {
    if args.replay.is_some() {
        return Ok(run);
    }
    let Some(member) = fleet::member(args.fleet_timeout, env)? else {
        return Ok(run);
    };
    let budgets = crate::cli::ledger::budgets(env)?;
    let longest = args.deadline.length().unwrap_or(LONGEST);
    let membership = Membership::new(member, budgets, env.clock, longest);
    Ok(run.fleet(Box::new(membership)))
}

/// What the answers of a model were like in runs with these labels.
fn expected(args: &AskArgs, model: &str, env: &Env) -> Option<Expected> {
    let tags = args.tags.iter().map(|(key, value)| TagFilter {
        key: key.clone(),
        value: Some(value.clone()),
    });
    let tags: Vec<TagFilter> = tags.collect();
    let expected = expected_outputs(&[model], &tags, env);
    expected.into_iter().next().flatten()
}

/// What the run is, by the flags and the environment.
fn run_config(
    args: &AskArgs,
    session_type: SessionType,
    peer: &Peer,
    (requested, catalog, model): (Option<String>, Catalog, Model),
    env: &Env,
) -> Result<RunConfig, Failure> {
    let mut config = RunConfig::of(session_type, requested, catalog, model)
        .clock(env.clock, env.started)
        .timeout(args.deadline.length().unwrap_or(LONGEST))
        .peer(peer.transport(), peer.name())
        .labels(args.name.clone().unwrap_or_default(), tags(args, env))
        .limits(Limits {
            max_usd: args.max_usd,
            max_tokens: args.max_tokens,
        });
    if args.price.is_some() {
        config = config.fixed_price();
    }
    if let Peer::Http { key: Some(key), .. } = peer {
        config = config.key(key.expose());
    }
    if args.replay.is_some() {
        return Ok(config.replay());
    }
    Ok(config.budgets(crate::cli::ledger::budgets(env)?))
}

/// The labels of a run: its flags', the environment's and the CI system's, in that order of precedence.
fn tags(args: &AskArgs, env: &Env) -> BTreeMap<String, String> {
    let text = |name: &str| {
        env.variable(name)
            .and_then(|value| value.into_string().ok())
    };
    let mut tags = BTreeMap::new();
    for (key, variables) in [
        (
            "repository",
            ["GITHUB_REPOSITORY", "CI_PROJECT_PATH", "BUILDKITE_REPO"],
        ),
        (
            "workflow",
            ["GITHUB_WORKFLOW", "CI_JOB_NAME", "BUILDKITE_PIPELINE_SLUG"],
        ),
        (
            "run",
            ["GITHUB_RUN_ID", "CI_PIPELINE_ID", "BUILDKITE_BUILD_NUMBER"],
        ),
    ] {
        if let Some(value) = variables.into_iter().find_map(text) {
            tags.insert(key.to_string(), value);
        }
    }
    for pair in text("OMK_TAGS").unwrap_or_default().split(',') {
        if let Some((key, value)) = pair.split_once('=') {
            tags.insert(key.trim().to_string(), value.trim().to_string());
        }
    }
    tags.extend(args.tags.iter().cloned());
    tags
}

/// Prices change every few months.
const STALE: Duration = Duration::from_secs(90 * 86_400);

/// The warning for rates that are older than [`STALE`], if they are.
fn stale(used: &PriceUsed, now: SystemTime) -> Option<String> {
    let day = match used.as_of.len() {
        7 => format!("{}-28T00:00:00Z", used.as_of),
        _ => format!("{}T00:00:00Z", used.as_of),
    };
    let age = now.duration_since(parse_rfc3339(&day).ok()?).ok()?;
    (age > STALE).then(|| {
        format!(
            "the price of {} is of {}, {} days ago; `omk models update` fetches newer ones",
            used.model,
            used.as_of,
            age.as_secs() / 86_400
        )
    })
}

/// How a run ended that an error ended: by someone's will, or by itself.
pub(crate) fn status_of(error: &LlmError, exit: Exit) -> SessionStatus {
    match error.root() {
        // The deadline is the caller's; silence until --idle-timeout is the peer's failure.
        LlmError::Timeout { .. } if exit == Exit::Deadline => SessionStatus::Interrupted,
        LlmError::BudgetExhausted { begun: true, .. }
        | LlmError::Runaway { .. }
        | LlmError::Interrupted { .. } => SessionStatus::Interrupted,
        _ => SessionStatus::Failed,
    }
}

fn not_over_http(flag: &str, reason: &str) -> Failure {
    let detail = format!("{flag} needs an agent, and the service is asked over HTTP: {reason}");
    Failure::new(Exit::Usage, "usage", detail)
        .hint("--transport acp, --transport wire or --kimi PATH asks an agent")
}

/// The failure of a limit that cannot be checked.
fn unpriced(catalog: &Catalog, requested: Option<&str>, model: &Model, args: &AskArgs) -> Failure {
    let Some(name) = requested else {
        let detail = "the agent chooses the model, so its price is not known beforehand";
        return Failure::new(Exit::Config, "price", detail).hint(
            "name the model with --model, and its rates with --price where they are not known",
        );
    };
    let needs = match args.max_usd {
        Some(_) => ": --max-usd cannot be checked",
        None => "",
    };
    let detail = match model.billing {
        crate::catalog::Billing::Subscription => {
            format!("{name} is part of a subscription and has no price per token{needs}")
        }
        crate::catalog::Billing::Metered => {
            format!(
                "no price of {name} is known, and omk never takes that of a similar name{needs}"
            )
        }
    };
    let failure = Failure::new(Exit::Config, "price", detail)
        .hint("--price IN,CACHED,OUT or a --price-file gives one, `omk models update` may know it");
    let near = match catalog.find(name) {
        Some(_) => Vec::new(),
        None => catalog.suggest(name),
    };
    match near.is_empty() {
        true => failure,
        false => failure.hint(format!("did you mean {}?", near.join(" or "))),
    }
}
