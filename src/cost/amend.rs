//! Manual settlement: a person says what a run cost, or that it cost nothing.
//!
//! For runs that no report and no log settles: the bill of the provider knows more than the ledger. What was known before
//! stays in the record as an [`Amendment`], so a settlement can be explained and undone by another one. Pure: the caller
//! reads and writes the record.

use std::fmt;

use crate::catalog::money::Charge;
use crate::catalog::money::Usd;
pub use crate::cost::record::Amendment;
use crate::cost::record::CostKind;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::record::Stated;

/// What a run is settled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It cost this.
    Cost(Usd),
    /// It was not billed.
    Void,
}

/// Why a run cannot be settled by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmendError {
    /// It is still at work and would write over it.
    Running,
    /// It is open, and whether its process still runs cannot be seen from here.
    Unseen,
}

impl fmt::Display for AmendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AmendError::Running => "the run is still at work",
            AmendError::Unseen => {
                "the run is open on a machine that cannot be seen from here, so it may still be at work"
            }
        })
    }
}

impl std::error::Error for AmendError {}

fn stated(run: &SessionCost) -> Stated {
    Stated {
        status: run.status,
        charged: run.charged,
        usd: run.actual_usd,
        at_most_usd: run.at_most_usd(),
    }
}

/// Settles a run. `owner` is [`crate::cost::record::Owner::is_alive`]'s answer; a person who knows better passes
/// `Some(false)`.
///
/// # Errors
///
/// See [`AmendError`]; the record is then as it was.
pub fn settle(
    run: &mut SessionCost,
    to: Settlement,
    owner: Option<bool>,
    (at, by, note): (String, String, String),
) -> Result<(), AmendError> {
    if run.status == SessionStatus::Open {
        match owner {
            Some(true) => return Err(AmendError::Running),
            None => return Err(AmendError::Unseen),
            Some(false) => {}
        }
    }
    let before = stated(run);
    let (charged, usd) = match to {
        Settlement::Cost(usd) => (Charge::Yes, usd),
        Settlement::Void => (Charge::No, Usd::ZERO),
    };
    run.charged = charged;
    if run.kind == CostKind::Assumed {
        // It is known now what was billed.
        run.kind = CostKind::Metered;
    }
    run.actual_usd = Some(usd);
    run.worst_case_usd = Some(usd);
    if matches!(run.status, SessionStatus::Open | SessionStatus::Unknown) {
        run.status = SessionStatus::Settled;
        run.ended_at.get_or_insert_with(|| at.clone());
    }
    let after = stated(run);
    run.amendments.push(Amendment {
        at,
        by,
        note,
        before,
        after,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::record::SessionType;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    fn by_hand() -> (String, String, String) {
        let text = |text: &str| text.to_string();
        (
            text("2026-11-21T00:00:00Z"),
            text("me@host"),
            text("bill of November"),
        )
    }

    fn killed() -> SessionCost {
        let mut run = SessionCost::open("1", SessionType::Prompt, "2026-11-01T00:00:00Z");
        run.charged = Charge::Unknown;
        run.worst_case_usd = Some(usd("19"));
        run
    }

    #[test]
    fn a_killed_run_is_settled_and_says_what_it_said_before() {
        for (to, charged, amount) in [
            (Settlement::Cost(usd("0.5")), Charge::Yes, usd("0.5")),
            (Settlement::Void, Charge::No, Usd::ZERO),
        ] {
            let mut run = killed();
            settle(&mut run, to, Some(false), by_hand()).unwrap();
            assert_eq!(run.at_most_usd(), Some(amount));
            assert_eq!((run.actual_usd, run.charged), (Some(amount), charged));
            assert_eq!(run.status, SessionStatus::Settled);
            let [amendment] = &run.amendments[..] else {
                panic!("{run:?}");
            };
            assert_eq!(amendment.before.at_most_usd, Some(usd("19")));
            assert_eq!(amendment.before.status, SessionStatus::Open);
            assert_eq!(amendment.after.usd, Some(amount));
            let json = serde_json::to_string(&run).unwrap();
            assert_eq!(serde_json::from_str::<SessionCost>(&json).unwrap(), run);
        }
    }

    #[test]
    fn who_may_be_at_work_is_left_alone() {
        for (owner, error) in [
            (Some(true), AmendError::Running),
            (None, AmendError::Unseen),
        ] {
            let mut run = killed();
            assert_eq!(
                settle(&mut run, Settlement::Void, owner, by_hand()),
                Err(error)
            );
            assert_eq!(run, killed());
        }
    }

    #[test]
    fn a_run_that_is_over_keeps_its_status_and_its_earlier_amendments() {
        let mut run = killed();
        run.status = SessionStatus::Failed;
        for to in [Settlement::Cost(usd("2")), Settlement::Cost(usd("1"))] {
            settle(&mut run, to, None, by_hand()).unwrap();
        }
        assert_eq!(
            (run.status, run.amendments.len()),
            (SessionStatus::Failed, 2)
        );
        assert_eq!(run.amendments[1].before.usd, Some(usd("2")));
        assert_eq!(run.at_most_usd(), Some(usd("1")));
    }
}
