//! A conversation over HTTP: what was said before goes along, and what is said now is kept.

use crate::catalog::money::Usd;
use crate::cli::ask::peer::{Destination, host};
use crate::cli::ask::{Asker, TurnReport, destination};
use crate::cli::commands::prompt::args::PromptArgs;
use crate::cli::commands::sessions::{conversations, unreadable};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::store::store;
use crate::llm::client::Request;
use crate::llm::cost::CostEstimator;
use crate::llm::types::LlmResponse;
use crate::run::conversation::{Conversation, Conversations, Exchange};
use crate::runtime::clock::format_rfc3339;

/// A conversation that the prompt is a turn of.
pub(super) struct Kept {
    place: Conversations,
    conversation: Conversation,
    /// What is asked now.
    user: String,
    history_tokens: u64,
}

/// Puts the earlier turns into the request, where it is a turn of a conversation with a service. Agents keep their own.
///
/// # Errors
///
/// Exit 66 when there is no conversation to continue, 74 when it cannot be read.
pub(super) fn open(
    args: &mut PromptArgs,
    request: &mut Request,
    env: &Env,
) -> Result<Option<Kept>, Failure> {
    if args.ask.conversation.is_none() && !args.resume {
        return Ok(None);
    }
    let Destination::Http { base_url } = destination(&args.ask, env)? else {
        return match args.resume {
            true => Err(Failure::new(
                Exit::Usage,
                "usage",
                "--continue is for a service asked over HTTP; an agent keeps its own conversations",
            )
            .hint("--session NAME continues one of an agent")),
            false => Ok(None),
        };
    };
    let place = conversations(env)?;
    let name = match args.ask.conversation.take() {
        Some(name) => name,
        None => newest(&place)?,
    };
    let found = place
        .read(&name)
        .map_err(|error| unreadable(&name, &error))?;
    let conversation = found.unwrap_or_else(|| Conversation {
        name,
        peer: host(&base_url).to_string(),
        ..Conversation::default()
    });
    if request.system.is_none() {
        request.system.clone_from(&conversation.system);
    }
    if args.ask.model.is_none() {
        args.ask.model = conversation.model.clone().map(|model| (model, false));
    }
    request.history = conversation.history();
    request.cache_key = Some(format!("omk-{}", conversation.name));
    let model = args.ask.model.as_ref().map(|(model, _)| model.as_str());
    let catalog = crate::cli::prices::load(&args.ask.price_files, env)?;
    let estimator = CostEstimator::new(&catalog, model.unwrap_or(crate::cli::ask::DEFAULT_MODEL));
    let counts = request
        .history
        .iter()
        .map(|turn| estimator.count(&turn.text));
    Ok(Some(Kept {
        place,
        user: request.text.clone(),
        history_tokens: counts.fold(0, u64::saturating_add),
        conversation,
    }))
}

fn newest(place: &Conversations) -> Result<String, Failure> {
    let names = place.names().map_err(|error| unreadable("-c", &error))?;
    names
        .into_iter()
        .next()
        .map(|(name, _)| name)
        .ok_or_else(|| {
            Failure::new(
                Exit::NoInput,
                "session",
                "there is no conversation to continue",
            )
            .hint("--session NAME begins one; `omk sessions list` shows those there are")
        })
}

impl Kept {
    /// Keeps the turn. Returns what it sent and cost.
    ///
    /// # Errors
    ///
    /// Exit 74 when it cannot be kept, also because another run continued the conversation in the meantime.
    pub(super) fn keep(
        mut self,
        response: &LlmResponse,
        asker: &Asker,
        system: Option<&str>,
        env: &Env,
    ) -> Result<TurnReport, Failure> {
        let run = asker.so_far();
        let record = run.record();
        let counts = run.usage();
        let figure = |of: Option<u64>| of.unwrap_or(0);
        let input = counts.filter(|usage| usage.input.is_some()).map(|usage| {
            figure(usage.input)
                .saturating_add(figure(usage.cache_read))
                .saturating_add(figure(usage.cache_write))
        });
        let usd = run.known_usd().filter(|_| input.is_some());
        let before = self.conversation.turns.len();
        let name = self.conversation.name.clone();
        let now = self
            .place
            .read(&name)
            .map_err(|error| unreadable(&name, &error))?;
        if now.map_or(0, |now| now.turns.len()) != before {
            let detail = format!(
                "another run continued the session {name} in the meantime: this turn is not in it"
            );
            return Err(Failure::new(Exit::Io, "session", detail));
        }
        self.conversation.system = system.map(str::to_string);
        self.conversation.model = record.model.requested.clone();
        self.conversation.turns.push(Exchange {
            at: format_rfc3339(env.clock.now()),
            user: self.user,
            assistant: response.text.clone(),
            run_id: record.id.clone(),
            model: record.model.reported.clone(),
            history_tokens: self.history_tokens,
            input_tokens: input,
            cached_tokens: counts.and_then(|usage| usage.cache_read),
            output_tokens: counts.and_then(|usage| usage.output),
            usd: usd.map(Usd::exact_decimal),
        });
        let bytes = serde_json::to_vec(&self.conversation).unwrap_or_default();
        store(&self.place.path(&name), &bytes)?;
        Ok(TurnReport {
            name,
            turn: before + 1,
            history_tokens: self.history_tokens,
            input_tokens: input,
            cached_tokens: counts.and_then(|usage| usage.cache_read),
            usd,
        })
    }
}
