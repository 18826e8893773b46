//! `omk sessions`: the conversations with services that omk keeps.

use std::io;

use serde::Serialize;

use crate::catalog::money::Usd;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, FlagGroup, LowArgs, shared, value};
use crate::run::conversation::{Conversation, Conversations, Exchange};
use crate::runtime::clock::format_rfc3339;
use crate::runtime::table::{Align, Table};
use crate::runtime::text::{escape, truncate};

const FLAGS: &[FlagGroup] = &[FlagGroup {
    title: "",
    flags: &[&shared::JSON, &shared::QUIET],
}];

/// Their places in the table of commands.
pub(crate) static LIST: CommandSpec = CommandSpec {
    name: "sessions list",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "list the conversations that omk keeps",
    doc: "Lists the conversations with services, the newest first, with their turns and what they cost so far. \
`omk prompt --session NAME` begins or continues one, `omk prompt -c` continues the newest. A service keeps no conversation: each turn \
sends the earlier ones again, which its cache may cover in part. They are files for this user alone (mode 0600) in the \
directory sessions/http of the state directory. Conversations of agents are kept by the agents.",
    examples: &[("omk sessions list", "Names, turns and costs.")],
    flags: FLAGS,
    run: |invocation, env| list(&invocation.low, env),
};

/// See [`LIST`].
pub(crate) static SHOW: CommandSpec = CommandSpec {
    name: "sessions show",
    positionals: "NAME",
    completes: Completes::Nothing,
    at_most: 1,
    summary: "print a conversation, with what each turn sent and cost",
    doc: "Prints the questions and answers of a conversation. For each turn it says how many tokens were history, how many were \
sent and came from the cache, and the cost.",
    examples: &[("omk sessions show review", "One conversation.")],
    flags: FLAGS,
    run: |invocation, env| show(&invocation.low, env),
};

/// See [`LIST`].
pub(crate) static REMOVE: CommandSpec = CommandSpec {
    name: "sessions remove",
    positionals: "NAME...",
    completes: Completes::Nothing,
    at_most: usize::MAX,
    summary: "remove conversations",
    doc: "Removes conversations for good. The ledger keeps what they cost.",
    examples: &[("omk sessions remove review", "Remove one.")],
    flags: FLAGS,
    run: |invocation, env| remove(&invocation.low, env),
};

/// The JSON document `omk.sessions/1`. Fields are only ever added.
#[derive(Serialize)]
struct Listing<'a> {
    sessions: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    name: &'a str,
    updated_at: Option<String>,
    peer: &'a str,
    model: Option<&'a str>,
    turns: usize,
    /// The known part of the cost.
    usd: Usd,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchanges: Option<Vec<ExchangeReport<'a>>>,
}

#[derive(Serialize)]
struct ExchangeReport<'a> {
    at: &'a str,
    run_id: &'a str,
    model: Option<&'a str>,
    user: &'a str,
    assistant: &'a str,
    history_tokens: u64,
    input_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    output_tokens: Option<u64>,
    usd: Option<Usd>,
}

/// Where the conversations of this user are kept.
///
/// # Errors
///
/// Exit 78 when there is no place for them.
pub(crate) fn conversations(env: &Env) -> Result<Conversations, Failure> {
    let state = env.base_directory("XDG_STATE_HOME", ".local/state");
    let state = state.ok_or_else(|| {
        let detail = "conversations need a place, and HOME is not set";
        Failure::new(Exit::Config, "configuration", detail).hint("set HOME or XDG_STATE_HOME")
    })?;
    Ok(Conversations::new(state.join("sessions").join("http")))
}

/// A conversation cannot be read.
pub(crate) fn unreadable(name: &str, error: &io::Error) -> Failure {
    let detail = format!("the session {}: {error}", escape(name));
    Failure::new(Exit::Io, "session", detail)
        .hint(format!("`omk sessions remove {}` removes it", escape(name)))
}

fn usd(turn: &Exchange) -> Option<Usd> {
    Usd::parse(turn.usd.as_deref()?).ok()
}

fn item<'a>(conversation: &'a Conversation, whole: bool) -> Item<'a> {
    let known = conversation.turns.iter().filter_map(usd);
    Item {
        name: &conversation.name,
        updated_at: conversation.turns.last().map(|turn| turn.at.clone()),
        peer: &conversation.peer,
        model: conversation.model.as_deref(),
        turns: conversation.turns.len(),
        usd: known.fold(Usd::ZERO, |sum, usd| sum + usd),
        system: conversation.system.as_deref().filter(|_| whole),
        exchanges: whole.then(|| {
            let turns = conversation.turns.iter();
            turns
                .map(|turn| ExchangeReport {
                    at: &turn.at,
                    run_id: &turn.run_id,
                    model: turn.model.as_deref(),
                    user: &turn.user,
                    assistant: &turn.assistant,
                    history_tokens: turn.history_tokens,
                    input_tokens: turn.input_tokens,
                    cached_tokens: turn.cached_tokens,
                    output_tokens: turn.output_tokens,
                    usd: usd(turn),
                })
                .collect()
        }),
    }
}

fn print(listing: &Listing<'_>, env: &mut Env) -> Result<Exit, Failure> {
    env.output
        .document("omk.sessions/1", Exit::Done, listing, None)?;
    Ok(Exit::Done)
}

fn list(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let place = conversations(env)?;
    let names = place.names().map_err(|error| unreadable("list", &error))?;
    let mut found = Vec::new();
    for (name, modified) in names {
        match place.read(&name) {
            Ok(Some(conversation)) => found.push((conversation, modified)),
            Ok(None) => {}
            Err(error) => env.output.warning(unreadable(&name, &error).detail),
        }
    }
    let items: Vec<Item<'_>> = found
        .iter()
        .map(|(conversation, modified)| Item {
            updated_at: Some(format_rfc3339(*modified)),
            ..item(conversation, false)
        })
        .collect();
    if low.json {
        return print(&Listing { sessions: items }, env);
    }
    if items.is_empty() {
        env.output.print("no conversations\n")?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(vec![
        ("session", Align::Left),
        ("turns", Align::Right),
        ("usd", Align::Right),
        ("model", Align::Left),
        ("last turn", Align::Left),
    ]);
    for item in &items {
        let last = item.updated_at.as_deref().unwrap_or("-");
        table.row(vec![
            escape(&truncate(item.name, 30)).into_owned(),
            item.turns.to_string(),
            item.usd.to_string(),
            escape(&truncate(item.model.unwrap_or("-"), 20)).into_owned(),
            last.get(..16).unwrap_or(last).replace('T', " "),
        ]);
    }
    env.output.print(&table.render())?;
    Ok(Exit::Done)
}

/// The names that were given, each a possible one.
fn names(low: &LowArgs) -> Result<Vec<String>, Failure> {
    if low.positionals.is_empty() {
        return Err(
            Failure::new(Exit::Usage, "usage", "the name of a session is missing")
                .hint("`omk sessions list` shows them"),
        );
    }
    let names = low.positionals.iter().map(|name| {
        value::session_name(name).map_err(|error| Failure::new(Exit::Usage, "usage", error))
    });
    names.collect()
}

fn missing(name: &str) -> Failure {
    let detail = format!("there is no session {name}");
    Failure::new(Exit::NoInput, "session", detail).hint("`omk sessions list` shows them")
}

fn show(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let place = conversations(env)?;
    let name = names(low)?.pop().unwrap_or_default();
    let found = place
        .read(&name)
        .map_err(|error| unreadable(&name, &error))?;
    let conversation = found.ok_or_else(|| missing(&name))?;
    if low.json {
        let sessions = vec![item(&conversation, true)];
        return print(&Listing { sessions }, env);
    }
    if let Some(system) = &conversation.system {
        env.output.print(&format!("# system\n\n{system}\n\n"))?;
    }
    for (turn, number) in conversation.turns.iter().zip(1..) {
        let figure =
            |tokens: Option<u64>| tokens.map_or("?".to_string(), |tokens| tokens.to_string());
        let cost = usd(turn).map_or("cost unknown".to_string(), |usd| usd.to_string());
        env.output.print(&format!(
            "# turn {number}: {} tokens of history, {} sent, {} from the cache, {} answered, {cost}\n\n> {}\n\n{}\n\n",
            turn.history_tokens,
            figure(turn.input_tokens),
            figure(turn.cached_tokens),
            figure(turn.output_tokens),
            turn.user.trim_end().replace('\n', "\n> "),
            turn.assistant.trim_end(),
        ))?;
    }
    Ok(Exit::Done)
}

fn remove(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let place = conversations(env)?;
    let mut removed = Vec::new();
    let mut failures = Vec::new();
    for name in names(low)? {
        match place.remove(&name) {
            Ok(true) => removed.push(name),
            Ok(false) => failures.push(missing(&name)),
            Err(error) => failures.push(unreadable(&name, &error)),
        }
    }
    if let Some(failure) = Failure::merge(failures) {
        return Err(failure);
    }
    if low.json {
        let gone: Vec<Conversation> = removed
            .into_iter()
            .map(|name| Conversation {
                name,
                ..Conversation::default()
            })
            .collect();
        let sessions = gone.iter().map(|gone| item(gone, false)).collect();
        return print(&Listing { sessions }, env);
    }
    env.output.note(&format!("removed {}", removed.join(", ")));
    Ok(Exit::Done)
}
