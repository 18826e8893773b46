//! What a run asks of a fleet: a budget that several machines share, beside the machine's own.

use std::time::Duration;
use std::time::SystemTime;

use crate::cost::budget::Budget;
use crate::cost::record::SessionCost;
use crate::fleet::member::Admission;
use crate::fleet::member::Member;
use crate::fleet::member::Refusal;
use crate::fleet::store::StoreError;
use crate::runtime::clock::Clock;

/// A reservation is overdue so long after its run should have ended: time to settle it.
const GRACE: Duration = Duration::from_secs(120);

/// A budget that several machines share.
///
/// A run announces itself before it is in any ledger, reserves after its own ledger granted it, and settles when it is over.
pub trait Fleet {
    /// Notes that the run is about to ask.
    ///
    /// # Errors
    ///
    /// It must not be sent.
    fn announce(&mut self, run: &SessionCost) -> Result<(), Refusal>;

    /// Reserves the run's worst case, in place of what it reserved before.
    ///
    /// # Errors
    ///
    /// It must not be sent, or not go on.
    fn reserve(&mut self, run: &SessionCost) -> Result<Admission, Refusal>;

    /// The machine's own ledger refused the run.
    fn withdraw(&mut self, run: &SessionCost);

    /// The run is over.
    ///
    /// # Errors
    ///
    /// It waits, to be delivered later.
    fn settle(&mut self, run: &SessionCost) -> Result<(), StoreError>;
}

/// A member of a fleet with the budgets of its machine.
#[derive(Debug)]
pub struct Membership {
    member: Member,
    budgets: Vec<Budget>,
    clock: Clock,
    longest: Duration,
}

impl Membership {
    /// For runs that take `longest` at most.
    pub fn new(
        member: Member,
        budgets: Vec<Budget>,
        clock: Clock,
        longest: Duration,
    ) -> Membership {
        Membership {
            member,
            budgets,
            clock,
            longest,
        }
    }

    fn due(&self) -> SystemTime {
        let now = self.clock.now();
        now.checked_add(self.longest.saturating_add(GRACE))
            .unwrap_or(now)
    }
}

impl Fleet for Membership {
    fn announce(&mut self, run: &SessionCost) -> Result<(), Refusal> {
        let due = self.due();
        self.member.announce(run, due)
    }

    fn reserve(&mut self, run: &SessionCost) -> Result<Admission, Refusal> {
        let (due, now) = (self.due(), self.clock.now());
        self.member.reserve(run, &self.budgets, due, now)
    }

    fn withdraw(&mut self, run: &SessionCost) {
        self.member.withdraw(&run.id);
    }

    fn settle(&mut self, run: &SessionCost) -> Result<(), StoreError> {
        self.member.settle(run, self.clock.now())
    }
}
