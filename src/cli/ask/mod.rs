//! Asking a model for a command: whom, within which limits, and with every step in the ledger.
//!
//! `omk prompt` and `omk plan` ask through one [`Asker`]. It settles the flags they share, chooses the peer, holds each
//! request against the limits before anything is sent, keeps the ledger's record of the run up to date while it runs, and
//! accounts for all its requests together. It is a client itself, so that whoever takes one need not know of any of this.
//! It refuses to print.

mod client;
mod failure;
mod ledger;
mod limits;
pub(crate) mod peer;
mod report;
pub(crate) mod screen;

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use crate::catalog::money::Usd;
use crate::catalog::{Catalog, Model, Price};
use crate::cli::ask::client::Client;
use crate::cli::ask::ledger::{Meter, Watch};
use crate::cli::ask::limits::Limits;
use crate::cli::ask::peer::Peer;
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::Thinking;
use crate::cli::flags::{LowArgs, UsageError};
use crate::cli::prices;
use crate::cost::record::{SessionStatus, SessionType};
use crate::llm::client::{LlmClient, LlmClientConfig, Observer, Permissions, Request};
use crate::llm::error::LlmError;
use crate::llm::retry::RetryPolicy;
use crate::llm::types::{LlmResponse, TokenBudget};
use crate::transport::Transport;

use crate::cli::ask::failure::failure;
pub(crate) use crate::cli::ask::report::ResultReport;

/// The model of a service when neither a flag nor a variable nor the config file names one.
const DEFAULT_MODEL: &str = "kimi-k3";
/// How long a run takes at most where no `--deadline` says otherwise: Moonshot ends a request after 900 s, says its table
/// of errors.
const LONGEST: Duration = Duration::from_secs(15 * 60);

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
    pub(crate) thinking: Option<Thinking>,
    pub(crate) conversation: Option<String>,
    pub(crate) record: Option<PathBuf>,
    pub(crate) replay: Option<PathBuf>,
    pub(crate) name: Option<String>,
    pub(crate) tags: Vec<(String, String)>,
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
            return Err(UsageError::new("one model answers, and several were named")
                .hint("`omk estimate` compares several"));
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
                ("--session", ask.conversation.is_some()),
            ] {
                if is_given {
                    return Err(UsageError::conflict(flag, "--transport http")
                        .hint("a service has no tools and keeps no conversation; agents do"));
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
            thinking: ask.thinking,
            conversation: ask.conversation.take(),
            record: ask.record.take(),
            replay: ask.replay.take(),
            name: ask.name.take(),
            tags: std::mem::take(&mut ask.tag),
        })
    }

    /// The budget of the run in tokens.
    pub(crate) fn budget(&self) -> TokenBudget {
        self.max_tokens
            .map_or(TokenBudget::unlimited(), TokenBudget::new)
    }
}

/// A client that keeps to the limits and the books of one run.
pub(crate) struct Asker {
    client: Client,
    limits: Limits,
    meter: Meter,
    deadline: Deadline,
    idle_timeout: Duration,
}

impl Asker {
    /// Chooses the peer and opens the books. Nothing is sent or started yet but an agent's `--version`.
    ///
    /// # Errors
    ///
    /// Nobody can be asked, or the price that a limit needs is not known.
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
            if args.conversation.is_some() {
                return Err(not_over_http("--session", "it keeps no conversation"));
            }
        }
        let requested = match (&args.model, &peer) {
            (Some((model, _)), _) => Some(model.clone()),
            (None, Peer::Http { .. }) => Some(DEFAULT_MODEL.to_string()),
            (None, Peer::Tape { model, .. }) => Some(model.clone()),
            (None, Peer::Agent { .. }) => None,
        };
        // Of an agent whose model is not known yet, only the default's vocabulary and window can be reckoned with.
        let name = requested.as_deref().unwrap_or(DEFAULT_MODEL);
        if let Some(price) = &args.price {
            catalog.set_price(name, price.clone());
        }
        let model = catalog.resolve(name).into_owned();
        let priced = (requested.is_some() || args.price.is_some()) && model.price.is_some();
        if !priced && (args.strict_prices || args.max_usd.is_some()) {
            return Err(unpriced(&catalog, requested.as_deref(), &model, args));
        }
        let mut config = LlmClientConfig::new(model.clone());
        config.timeout = args.deadline.left().unwrap_or(LONGEST);
        if let Some(idle) = args.idle_timeout {
            config.idle_timeout = idle;
        }
        if let Some(retries) = args.retries {
            config.retry = RetryPolicy {
                max_retries: retries,
                ..RetryPolicy::default()
            };
        }
        let limits = Limits {
            max_usd: args.max_usd,
            max_tokens: args.max_tokens,
            is_agent: peer.is_agent(),
            priced,
        };
        let mut meter = Meter::new(args, session_type, &peer, requested, catalog, model, env)?;
        let idle_timeout = config.idle_timeout;
        let client = Client::new(args, (peer, player), config, meter.id(), env)?;
        client.introduce(&mut meter);
        Ok(Asker {
            client,
            limits,
            meter,
            deadline: args.deadline,
            idle_timeout,
        })
    }

    /// How long the peer may be silent, if it gives no sign of life in between as agents do.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let is_agent = self.limits.is_agent;
        let idle = self.idle_timeout;
        (!is_agent).then(|| self.deadline.left().map_or(idle, |left| left.min(idle)))
    }

    /// What the run has come to so far.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The rates that are reckoned with, once it is known whose.
    pub(crate) fn price(&self) -> Option<Price> {
        let used = self.meter.record().price.as_ref();
        used.map(|used| used.price.clone())
    }

    /// Closes the books: how it ended, and with which exit code. Returns what could not be written down.
    pub(crate) fn close(
        &mut self,
        status: SessionStatus,
        exit: Exit,
        env: &mut Env,
    ) -> Option<Failure> {
        let client = self.client.finish(&self.meter);
        let ledger = self.meter.close(status, exit, env);
        client.err().or(ledger)
    }

    /// What the caller should know beside the answer.
    pub(crate) fn warnings(&self, is_answered: bool) -> Vec<String> {
        let meter = &self.meter;
        let mut warnings = meter.warnings.clone();
        let record = meter.record();
        if is_answered && meter.spent_usd().is_none() {
            let name = record.model.best().unwrap_or("the agent's model");
            if record.price.is_none() {
                warnings.push(format!(
                "no price of {name} is known, so the cost is not; --model names it, --price or a --price-file gives the rates"
            ));
            } else {
                warnings.push("the usage was not told, so the cost is not known".to_string());
            }
        }
        if let (Some(asked), Some(answered)) = (&record.model.requested, &record.model.reported)
            && asked != answered
            && record.transport == Some(Transport::Http)
        {
            warnings.push(format!("{asked} was asked, and {answered} answered"));
        }
        warnings
    }

    /// Keeps the ledger in order, once the answer is out.
    pub(crate) fn tidy(&self) {
        self.meter.fold();
    }

    /// The failure that an error of this run is.
    pub(crate) fn failure(&self, error: &LlmError) -> Failure {
        let failure = failure(error, &self.meter.who(), self.deadline);
        match self.meter.remedy() {
            Some(remedy) => failure.hint(remedy),
            None => failure,
        }
    }
}

impl LlmClient for Asker {
    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        self.ask(request, budget, observer)
    }
}

impl Asker {
    fn ask(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        let mut request = Cow::Borrowed(request);
        let bounds = self.limits.check(&request, budget, &self.meter)?;
        if let Some(most) = bounds.max_output {
            request.to_mut().max_output_tokens = Some(most);
        }
        self.meter.begin(&request, &bounds)?;
        let left = self.deadline.left().unwrap_or(LONGEST);
        let mut watch = Watch::new(&mut self.meter, self.limits.stop_at(), observer);
        let answer = self.client.run(&request, budget, left, &mut watch);
        self.meter.end(&answer);
        answer
    }
}

/// How a run ended that an error ended: by someone's will, or by itself.
pub(crate) fn status_of(error: &LlmError) -> SessionStatus {
    match error.root() {
        LlmError::Timeout { .. }
        | LlmError::BudgetExhausted { begun: true, .. }
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
