//! What becomes of a run that was left open.
//!
//! A killed run leaves an open record with what was known. Who owned it may still be at work, or its agent may have kept an
//! account that says the rest. Reading that account is the caller's part; here is only the decision, without a clock or a
//! file. Refuses to guess an amount: without an account the run stays reckoned at its worst case, as unknown, for good.

use crate::catalog::money::Usd;
use crate::cost::attempt::Attempt;
use crate::cost::record::Charge;
use crate::cost::record::Reservation;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::record::Usage;

/// What an agent's own account says of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What the run used, as far as the account goes.
    pub usage: Option<Usage>,
    /// What the calls that reported cost, each priced by itself: a price may depend on the size of each prompt.
    pub usd: Option<Usd>,
    /// The model that answered.
    pub model: Option<String>,
    /// Whether the account covers the run to its end, so that no call of it is missing.
    pub is_complete: bool,
    /// When the account ends, RFC 3339 in UTC.
    pub ended_at: Option<String>,
}

/// Why a record stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// It is not open.
    Over,
    /// Its owner is at work.
    Running,
    /// Its owner cannot be seen from here: another machine, another container.
    Unseen,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing.
    Stays(Stays),
    /// It is to be saved so: failed when nothing had been sent, settled when all of it is known, else unknown, with what is
    /// known as the lower bound and the worst case as the upper one.
    Becomes(Box<SessionCost>),
}

/// Decides for one record. `owner` is [`crate::cost::record::Owner::is_alive`]'s answer; a person who knows better passes
/// `Some(false)`. `account` is asked only when it matters; `now` is RFC 3339 in UTC, the end of a run whose end is not recorded.
pub fn recover(
    run: &SessionCost,
    owner: Option<bool>,
    account: impl FnOnce(&SessionCost) -> Option<Evidence>,
    now: &str,
) -> Recovery {
    if run.status != SessionStatus::Open {
        return Recovery::Stays(Stays::Over);
    }
    match owner {
        Some(true) => return Recovery::Stays(Stays::Running),
        None => return Recovery::Stays(Stays::Unseen),
        Some(false) => {}
    }
    let mut after = run.clone();
    after.ended_at = Some(now.to_string());
    if run.reservation != Reservation::Granted {
        // It was killed while it asked for a budget, which comes before sending.
        after.status = SessionStatus::Failed;
        after.charged = Charge::No;
        return Recovery::Becomes(Box::new(after));
    }
    after.status = SessionStatus::Unknown;
    if after.charged == Charge::No {
        // The record was written before it was sent; whether it was is not known.
        after.charged = Charge::Unknown;
    }
    let Some(found) = account(run) else {
        return Recovery::Becomes(Box::new(after));
    };
    if found.ended_at.is_some() {
        after.ended_at = found.ended_at;
    }
    if found.model.is_some() {
        after.model.reported = found.model;
    }
    if found.usage.is_some() {
        after.usage = found.usage;
        after.charged = Charge::Yes;
        // An amount that belongs to older figures would be wrong beside these.
        after.actual_usd = found.usd;
        if found.is_complete {
            after.status = SessionStatus::Settled;
            after.worst_case_usd = found.usd.or(after.worst_case_usd);
        } else {
            let unreported = found.usage.map_or(1, |usage| usage.unreported.max(1));
            after.worst_case_usd = bound(run, found.usd, unreported);
        }
        account_for(&mut after);
    }
    Recovery::Becomes(Box::new(after))
}

/// What a run can have cost at most of which a log reports a part: that, and for each other call what the run held for the
/// call under way.
fn bound(run: &SessionCost, found: Option<Usd>, unreported: u32) -> Option<Usd> {
    let known = run.actual_usd.unwrap_or(Usd::ZERO);
    let worst = run.worst_case_usd?;
    let rest = worst.checked_sub(known).unwrap_or(Usd::ZERO);
    let others = (0..unreported).fold(Usd::ZERO, |sum, _| sum + rest);
    Some((found.unwrap_or(known) + others).max(worst))
}

/// Brings the last attempt in line with the record, so that both say the same.
fn account_for(run: &mut SessionCost) {
    let (earlier, last) = match run.attempts.split_last_mut() {
        Some((last, earlier)) => (earlier, last),
        None => return,
    };
    let of_earlier = |figure: fn(&Attempt) -> Option<Usd>| {
        earlier
            .iter()
            .filter_map(figure)
            .fold(Usd::ZERO, |sum, usd| sum + usd)
    };
    let known = of_earlier(|attempt| attempt.known_usd);
    let most = of_earlier(|attempt| attempt.at_most_usd);
    let without = |usd: Option<Usd>, part| Some(usd?.checked_sub(part).unwrap_or(Usd::ZERO));
    last.end.get_or_insert_with(|| "killed".to_string());
    last.charged = run.charged;
    last.known_usd = without(run.actual_usd, known);
    last.at_least_usd = last.known_usd;
    last.at_most_usd = without(run.worst_case_usd, most);
    if earlier.is_empty() {
        last.usage = run.usage;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::record::SessionType;
    use crate::cost::record::UsageSource;

    const NOW: &str = "2026-11-21T00:00:00Z";

    fn open() -> SessionCost {
        let mut run = SessionCost::open("1", SessionType::Prompt, "2026-11-20T10:47:59Z");
        run.worst_case_usd = Some(Usd::from_usd(2));
        run
    }

    fn evidence(is_complete: bool) -> Evidence {
        Evidence {
            usage: Some(Usage {
                input: Some(600),
                cache_read: Some(400),
                cache_write: Some(0),
                output: Some(30),
                reasoning: None,
                source: UsageSource::SessionLog,
                unreported: 0,
            }),
            usd: Some(Usd::from_usd(1)),
            model: Some("kimi-k3".to_string()),
            is_complete,
            ended_at: Some("2026-11-20T10:50:00Z".to_string()),
        }
    }

    fn becomes(run: &SessionCost, account: Option<Evidence>) -> SessionCost {
        match recover(run, Some(false), |_| account, NOW) {
            Recovery::Becomes(run) => *run,
            stays => panic!("{stays:?}"),
        }
    }

    #[test]
    fn who_may_be_at_work_is_left_alone() {
        for (owner, stays) in [(Some(true), Stays::Running), (None, Stays::Unseen)] {
            let recovery = recover(&open(), owner, |_| panic!("asked"), NOW);
            assert_eq!(recovery, Recovery::Stays(stays));
        }
        let mut over = open();
        over.status = SessionStatus::Settled;
        let recovery = recover(&over, Some(false), |_| panic!("asked"), NOW);
        assert_eq!(recovery, Recovery::Stays(Stays::Over));
    }

    #[test]
    fn a_whole_account_settles_it() {
        let run = becomes(&open(), Some(evidence(true)));
        assert_eq!(run.status, SessionStatus::Settled);
        assert_eq!(run.charged, Charge::Yes);
        assert_eq!(run.at_most_usd(), Some(Usd::from_usd(1)));
        assert_eq!(run.ended_at.as_deref(), Some("2026-11-20T10:50:00Z"));
        assert_eq!(run.model.best(), Some("kimi-k3"));
    }

    #[test]
    fn without_one_it_is_reckoned_at_its_worst() {
        let run = becomes(&open(), None);
        assert_eq!(
            (run.status, run.charged),
            (SessionStatus::Unknown, Charge::Unknown)
        );
        assert_eq!(run.at_most_usd(), Some(Usd::from_usd(2)));
        let run = becomes(&open(), Some(evidence(false)));
        assert_eq!(run.status, SessionStatus::Unknown);
        assert_eq!(run.actual_usd, Some(Usd::from_usd(1)));
        // A dollar is known, and one more call may have been made.
        assert_eq!(run.at_most_usd(), Some(Usd::from_usd(3)));
        // An account without figures is none.
        let empty = Evidence {
            usage: None,
            ..evidence(true)
        };
        assert_eq!(becomes(&open(), Some(empty)).status, SessionStatus::Unknown);
    }

    #[test]
    fn who_was_still_asking_had_sent_nothing() {
        for reservation in [Reservation::Asked, Reservation::Waiting] {
            let mut run = open();
            run.reservation = reservation;
            let run = becomes(&run, None);
            assert_eq!(
                (run.status, run.charged),
                (SessionStatus::Failed, Charge::No)
            );
            assert_eq!(run.at_most_usd(), Some(Usd::ZERO));
        }
    }
}
