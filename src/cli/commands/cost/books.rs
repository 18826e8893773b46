//! The session logs of agents: which logs a session has, and what the calls in them cost.
//!
//! Shared by what settles a killed run and what imports a session. Every call is priced by itself, since rates may depend on
//! the size of each prompt; one without a price leaves the sum unknown.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::catalog::money::Usd;
use crate::catalog::{Billing, Catalog, Model, TokenCounts};
use crate::cost::record::{CostKind, SessionCost, Usage, UsageSource};
use crate::tokens::usage::Contradiction;
use crate::transport::agent::Usage as CallUsage;
use crate::transport::agents::{self, Dialect};
use crate::transport::session_dir;
use crate::transport::session_log;
use crate::transport::session_turns::{Call, Turn, read_turns};

/// The turns of a session.
pub(super) struct Session {
    /// Those of the main log.
    pub(super) turns: Vec<Turn>,
    /// Those of the sub-agents that have a log of their own, with the agent's name.
    pub(super) others: Vec<(String, Vec<Turn>)>,
    /// Usage in the logs that cannot be used.
    pub(super) contradictions: Vec<Contradiction>,
}

/// Reads a session from a byte of its main log on; `None` where there is no such log.
pub(super) fn read_session(
    directory: &Path,
    dialect: &'static Dialect,
    offset: u64,
) -> io::Result<Option<Session>> {
    let main = directory.join(dialect.main_log);
    if !main.is_file() {
        return Ok(None);
    }
    let found = read_turns(&main, dialect, offset)?;
    let mut session = Session {
        turns: found.turns,
        others: Vec::new(),
        contradictions: found.contradictions,
    };
    sub_agents(directory, dialect, &found.sub_agents, &mut session)?;
    Ok(Some(session))
}

/// Whether another agent's session was copied here, as Kimi Code's `import-sessions` does: its calls are not Kimi's, and
/// those of kimi-cli stand in kimi-cli's own log. Kimi Code marks such a session in `state.json`, as
/// `custom.imported_from_AGENT` (source: packages/migration-legacy of Kimi Code, 2026-08).
pub(super) fn is_copied(directory: &Path) -> bool {
    let state = std::fs::read(directory.join("state.json")).unwrap_or_default();
    let state: Value = serde_json::from_slice(&state).unwrap_or_default();
    let is_mark = |(name, value): (&String, &Value)| {
        let name = name.to_ascii_lowercase().replace('_', "");
        name.starts_with("importedfrom") && !matches!(value, Value::Null | Value::Bool(false))
    };
    [Some(&state), state.get("custom"), state.get("metadata")]
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .any(|members| members.iter().any(is_mark))
}

/// Adds the turns of a session's sub-agents, each with its agent's name. `known` are those whose calls stand in the main log.
fn sub_agents(
    directory: &Path,
    dialect: &'static Dialect,
    known: &BTreeSet<String>,
    session: &mut Session,
) -> io::Result<()> {
    let main = directory.join(dialect.main_log);
    for log in session_dir::logs(directory)? {
        let agent = session_log::agent_of(&log);
        if log != main && !known.contains(&agent) {
            let found = read_turns(&log, dialect, 0)?;
            session.others.push((agent, found.turns));
            session.contradictions.extend(found.contradictions);
        }
    }
    Ok(())
}

/// What calls used, as far as they reported it; `None` when none did.
pub(super) fn used<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Option<Usage> {
    let (mut sum, mut unreported) = (None::<CallUsage>, 0_u32);
    for call in calls {
        match (call.usage, sum) {
            (Some(usage), Some(before)) => sum = Some(before.plus(&usage)),
            (Some(usage), None) => sum = Some(usage),
            (None, _) => unreported = unreported.saturating_add(1),
        }
    }
    let sum = sum?;
    Some(Usage {
        input: Some(sum.input),
        cache_read: Some(sum.cache_read),
        cache_write: Some(sum.cache_write),
        output: Some(sum.output),
        reasoning: None,
        source: UsageSource::SessionLog,
        unreported,
    })
}

/// The row of the catalog that a call is priced by.
pub(super) fn row<'c>(
    call: &Call,
    otherwise: Option<&str>,
    catalog: &'c Catalog,
) -> Option<&'c Model> {
    catalog.find(call.model.as_deref().or(otherwise)?)
}

/// What calls cost; `None` when one of them did not tell what it used, or has no price.
pub(super) fn cost<'a>(
    calls: impl IntoIterator<Item = &'a Call>,
    price: impl Fn(&Call) -> Option<crate::catalog::Price>,
) -> Option<Usd> {
    calls.into_iter().try_fold(Usd::ZERO, |sum, call| {
        let bill = price(call)?.cost(&counts(call.usage?));
        sum.checked_add(bill.total())
    })
}

fn counts(usage: CallUsage) -> TokenCounts {
    TokenCounts {
        input_uncached: usage.input,
        cache_read: usage.cache_read,
        cache_write: usage.cache_write,
        output: usage.output,
    }
}

/// Whether a subscription pays for a model of that name in an agent's configuration.
fn is_plan_alias(alias: &str) -> bool {
    let prefixes = agents::ALL.iter().filter_map(|dialect| dialect.plan_prefix);
    prefixes.into_iter().any(|prefix| alias.starts_with(prefix))
}

/// How a call is paid for, by its name in the agent's configuration and its row.
pub(super) fn kind(alias: Option<&str>, row: Option<&Model>) -> CostKind {
    let is_plan = alias.is_some_and(is_plan_alias)
        || row.is_some_and(|row| row.billing == Billing::Subscription);
    match row.map(|row| row.price.is_some()) {
        _ if is_plan => CostKind::ListPriceEquivalent,
        Some(true) => CostKind::Metered,
        _ => CostKind::Unknown,
    }
}

/// Whether one account of a run has nothing less than another.
pub(super) fn covers(usage: &Usage, known: Option<&Usage>) -> bool {
    let all = |usage: &Usage| {
        [
            usage.input,
            usage.cache_read,
            usage.cache_write,
            usage.output,
        ]
        .map(|n| n.unwrap_or(0))
    };
    // Prompt and answer: how much of a prompt came from the cache is counted differently here and there.
    let sums = |[input, read, write, output]: [u64; 4]| {
        (input.saturating_add(read).saturating_add(write), output)
    };
    let known = known.map_or((0, 0), |known| sums(all(known)));
    let (prompt, output) = sums(all(usage));
    prompt >= known.0 && output >= known.1
}

/// The moment in milliseconds since 1970 at which a run began.
pub(super) fn started_ms(run: &SessionCost) -> u64 {
    moment_ms(&run.started_at).unwrap_or(0)
}

/// A moment in RFC 3339 as milliseconds since 1970.
pub(super) fn moment_ms(text: &str) -> Option<u64> {
    let moment = crate::runtime::clock::parse_rfc3339(text).ok()?;
    let since = moment
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// The other way round.
pub(super) fn moment(ms: u64) -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(model: &str, usage: Option<[u64; 4]>) -> Call {
        Call {
            alias: Some("alias".to_string()),
            model: Some(model.to_string()),
            usage: usage.map(|[input, cache_read, cache_write, output]| CallUsage {
                input,
                cache_read,
                cache_write,
                output,
            }),
        }
    }

    fn price(call: &Call, catalog: &Catalog) -> Option<crate::catalog::Price> {
        row(call, None, catalog)?.price.clone()
    }

    #[test]
    fn every_call_is_priced_by_itself() {
        let catalog = Catalog::builtin();
        // Each prompt is below the tier of 272000, and together they are above it.
        let calls = [
            call("gpt-5.5", Some([200_000, 0, 0, 0])),
            call("gpt-5.5", Some([200_000, 0, 0, 0])),
        ];
        let sum = cost(&calls, |call| price(call, &catalog));
        assert_eq!(sum.map(Usd::exact_decimal), Some("2".to_string()));
        assert_eq!(used(&calls).and_then(|usage| usage.input), Some(400_000));
    }

    #[test]
    fn one_call_without_a_price_or_a_word_leaves_the_sum_unknown() {
        let catalog = Catalog::builtin();
        for other in [
            call("nobody-knows", Some([1, 0, 0, 1])),
            call("kimi-k3", None),
        ] {
            let calls = [call("kimi-k3", Some([1, 0, 0, 1])), other];
            assert_eq!(cost(&calls, |call| price(call, &catalog)), None);
        }
        assert_eq!(used(&[call("kimi-k3", None)]), None);
    }

    #[test]
    fn a_plan_is_known_by_the_name_or_by_the_row() {
        let catalog = Catalog::builtin();
        for (alias, model, expected) in [
            ("kimi-code/k3", "k3", CostKind::ListPriceEquivalent),
            ("kimi-code/x", "kimi-k3", CostKind::ListPriceEquivalent),
            ("mine", "kimi-for-coding", CostKind::ListPriceEquivalent),
            ("mine", "kimi-k3", CostKind::Metered),
            ("mine", "nobody-knows", CostKind::Unknown),
        ] {
            assert_eq!(
                kind(Some(alias), catalog.find(model)),
                expected,
                "{alias} {model}"
            );
        }
    }
}
