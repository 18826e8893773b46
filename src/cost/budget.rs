//! Budgets over runs: so much a day, a week, a month, for all runs or for those with a label.
//!
//! # How runs that start at once stay under one cap
//!
//! There is no lock and no counter: the ledger's records are the only state, since a counter is one more thing that a kill
//! leaves wrong. A run first writes its own open record with its worst case, *asked*, and only then adds up what it sees:
//! what is over at what it cost, what is open at its worst case, asked or *granted*. If all of that fits with its own worst
//! case, it writes *granted* and may send.
//!
//! *The cap is not passed*, by any number of runs: of all runs whose grants are in force, take the one whose asking was
//! written last. It added up afterwards, so it saw all the others, and the sum fitted. The stated bound is therefore 0, as
//! long as no run costs more than its worst case.
//!
//! *They do not all refuse each other*: what is over and what is granted, from whomever, is final, and only a run that does
//! not fit beside that is refused. Runs that are still asking are ordered by their ids. One that does not fit beside those
//! before it steps back: it writes *waiting*, which counts for nothing, and looks on without asking until those before it
//! have been granted or refused. One that fits beside those before it, but not beside all, waits for the later ones to
//! step back. The first one never steps back, so each round grants or refuses at least one. A run that waits longer than
//! [`PATIENCE`] gives up.
//!
//! # What counts
//!
//! Runs that began in the period, in UTC, by the run's own beginning. A run whose owner was killed counts with its worst
//! case until it is recovered, and one that was recovered as unknown for good. Runs paid for by a subscription do not
//! count: their amounts are not billed. Runs without a known amount or bound cannot count; how many there are is told. A
//! run that has no bound itself is refused: no budget could hold it.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Duration;
use std::time::SystemTime;

use crate::catalog::money::Usd;
use crate::cost::record::Charge;
use crate::cost::record::CostKind;
use crate::cost::record::Reservation;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::sink::CostSink;
use crate::cost::sink::SinkError;
use crate::cost::tracker::CostTracker;
use crate::cost::view::Period;
use crate::cost::view::RecordView;
use crate::runtime::clock;
use crate::runtime::clock::Clock;
use crate::runtime::clock::Timer;

/// So long a run waits for others that are asking at the same moment. They need some milliseconds each.
pub const PATIENCE: Duration = Duration::from_secs(20);

const DAY: Duration = Duration::from_secs(86_400);

/// Which runs a budget is for, by a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFilter {
    /// The label's key.
    pub key: String,
    /// Its value; `None` for any.
    pub value: Option<String>,
}

impl TagFilter {
    /// Whether a run with these labels is meant.
    pub fn matches(&self, value_of: Option<&str>) -> bool {
        match (&self.value, value_of) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wanted), Some(value)) => wanted == value,
        }
    }
}

impl fmt::Display for TagFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// A stretch of time that a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// A day in UTC.
    Day,
    /// Seven days from a Monday.
    Week,
    /// A month of the calendar.
    Month,
}

impl Per {
    /// Every one, shortest first.
    pub const ALL: [Per; 3] = [Per::Day, Per::Week, Per::Month];

    /// The name in a budget.
    pub const fn name(self) -> &'static str {
        match self {
            Per::Day => "day",
            Per::Week => "week",
            Per::Month => "month",
        }
    }

    /// The stretch that a moment is in.
    pub fn around(self, moment: SystemTime) -> Period {
        let date = clock::format_date(moment);
        let midnight = |date: &str| clock::parse_rfc3339(&format!("{date}T00:00:00Z")).ok();
        let (from, until) = match self {
            Per::Day => {
                let from = midnight(&date);
                (from, from.and_then(|from| from.checked_add(DAY)))
            }
            Per::Week => {
                // 1970-01-01 was a Thursday.
                let day = crate::cost::view::micros(moment).div_euclid(86_400_000_000);
                let since_monday = u32::try_from((day + 3).rem_euclid(7)).unwrap_or(0);
                let from = midnight(&date).and_then(|from| from.checked_sub(DAY * since_monday));
                (from, from.and_then(|from| from.checked_add(DAY * 7)))
            }
            Per::Month => {
                let month = date.get(..7).unwrap_or_default();
                let from = midnight(&format!("{month}-01"));
                // No month is longer than 31 days, and none shorter than 27.
                let next = from.and_then(|from| from.checked_add(DAY * 31));
                let next = next.map(clock::format_date).unwrap_or_default();
                let next = next.get(..7).unwrap_or_default().to_string();
                (from, midnight(&format!("{next}-01")))
            }
        };
        Period { from, until }
    }
}

/// A cap over runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most that they may cost together.
    pub limit: Usd,
    /// In which time.
    pub per: Per,
    /// Which runs; `None` for all.
    pub tag: Option<TagFilter>,
}

impl Budget {
    /// Whether it is meant for this run.
    pub fn is_for(&self, run: &SessionCost) -> bool {
        let tag = self.tag.as_ref();
        tag.is_none_or(|tag| tag.matches(run.tags.get(&tag.key).map(String::as_str)))
    }
}

/// As it is written in `OMK_BUDGET`.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.tag {
            write!(f, "tag:{tag}=")?;
        }
        write!(f, "{}/{}", self.limit.exact_decimal(), self.per.name())
    }
}

/// A text is not a budget; says which part of it and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetError {
    part: String,
    why: String,
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\": {}; a budget is an amount in USD over a period, such as 5/day, 40/month or tag:ci=1/day",
            self.part, self.why
        )
    }
}

impl std::error::Error for BudgetError {}

/// Reads `5/day`, `40/month`, `tag:ci=1/day` (any run that has the label `ci`) or `tag:team=red=2/week`.
impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(part: &str) -> Result<Budget, BudgetError> {
        let wrong = |why: String| BudgetError {
            part: part.to_string(),
            why,
        };
        let (tag, amount) = match part.strip_prefix("tag:") {
            None => (None, part),
            Some(rest) => {
                let (tag, amount) = rest
                    .rsplit_once('=')
                    .ok_or_else(|| wrong("no = after the tag".to_string()))?;
                let (key, value) = match tag.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_string())),
                    None => (tag, None),
                };
                if key.is_empty() {
                    return Err(wrong("the tag has no name".to_string()));
                }
                let key = key.to_string();
                (Some(TagFilter { key, value }), amount)
            }
        };
        let (amount, per) = amount
            .split_once('/')
            .ok_or_else(|| wrong("no / between amount and period".to_string()))?;
        let limit = Usd::parse(amount).map_err(|e| wrong(format!("the amount {amount} is {e}")))?;
        let known = Per::ALL.into_iter().find(|known| known.name() == per);
        let per = known.ok_or_else(|| {
            wrong(format!(
                "the period \"{per}\" is not one of day, week and month"
            ))
        })?;
        Ok(Budget { limit, per, tag })
    }
}

/// Reads budgets with commas between them; an empty text has none.
///
/// # Errors
///
/// Names the first part that is none.
pub fn parse_budgets(text: &str) -> Result<Vec<Budget>, BudgetError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(|part| part.trim().parse()).collect()
}

/// How things stand with a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The budget.
    pub budget: Budget,
    /// What runs that are over did cost.
    pub spent: Usd,
    /// What runs under way, or killed and not recovered, or recovered without an account, may cost at most.
    pub reserved: Usd,
    /// Runs that may have cost something of which neither amount nor bound is known.
    pub unknown: u64,
    /// Of the reserved amount: runs that are still asking, with ids before and after the one that looks.
    asking: [Usd; 2],
}

impl Standing {
    fn of(budget: &Budget) -> Standing {
        Standing {
            budget: budget.clone(),
            spent: Usd::ZERO,
            reserved: Usd::ZERO,
            unknown: 0,
            asking: [Usd::ZERO; 2],
        }
    }

    /// Spent and reserved together.
    pub fn total(&self) -> Usd {
        self.spent + self.reserved
    }

    /// Whether so much more fits.
    pub fn fits(&self, more: Usd) -> bool {
        self.total() + more <= self.budget.limit
    }

    /// What is final: without those who are still asking.
    fn settled(&self) -> Usd {
        let [earlier, later] = self.asking;
        self.total()
            .checked_sub(earlier + later)
            .unwrap_or(Usd::ZERO)
    }

    fn add(&mut self, run: &RecordView<'_>, own_id: &str) {
        if run.kind == CostKind::ListPriceEquivalent {
            return;
        }
        let Some(usd) = run.reserved_usd() else {
            self.unknown += 1;
            return;
        };
        if !matches!(run.status, SessionStatus::Open | SessionStatus::Unknown) {
            self.spent = self.spent + usd;
            return;
        }
        self.reserved = self.reserved + usd;
        let is_asking = run.status == SessionStatus::Open
            && run.reservation == Reservation::Asked
            // Who was killed while it asked will not step back.
            && run.owner.and_then(|owner| owner.is_alive()) != Some(false);
        if is_asking {
            let [earlier, later] = &mut self.asking;
            let side = if run.id < own_id { earlier } else { later };
            *side = *side + usd;
        }
    }
}

/// How things stand with budgets at a moment. `except` is the id of a run that is not to count.
///
/// # Errors
///
/// The ledger cannot be read.
pub fn standings<S: CostSink>(
    tracker: &CostTracker<S>,
    budgets: &[Budget],
    now: SystemTime,
    except: Option<&str>,
) -> Result<(Vec<Standing>, Vec<String>), SinkError> {
    let mut standings: Vec<(Period, Standing)> = budgets
        .iter()
        .map(|budget| (budget.per.around(now), Standing::of(budget)))
        .collect();
    // One pass over the longest stretch.
    let whole = Period {
        from: standings.iter().filter_map(|(period, _)| period.from).min(),
        until: standings
            .iter()
            .filter_map(|(period, _)| period.until)
            .max(),
    };
    let own_id = except.unwrap_or_default();
    let warnings = tracker.report(whole, &mut |run| {
        for (period, standing) in &mut standings {
            let tag = standing.budget.tag.as_ref();
            if Some(run.id) != except
                && period.contains(run.started_micros)
                && tag.is_none_or(|tag| tag.matches(run.tag(&tag.key)))
            {
                standing.add(run, own_id);
            }
        }
        ControlFlow::Continue(())
    })?;
    let standings = standings.into_iter().map(|(_, standing)| standing);
    Ok((standings.collect(), warnings))
}

/// Why a run may not start. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not fit.
    Over {
        /// How things stand without it.
        standing: Box<Standing>,
        /// Its worst case.
        needed: Usd,
    },
    /// It has no worst case.
    Unbounded(Budget),
    /// Others asked at the same moment and did not come to an end in [`PATIENCE`].
    Contended(Budget),
    /// The ledger failed, so nobody can know.
    Ledger(SinkError),
}

impl Refusal {
    /// What mends it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Refusal::Over { standing, .. } if standing.reserved > Usd::ZERO => Some(
                "wait for the runs under way; `omk cost recover` settles those that were killed; or raise OMK_BUDGET"
                    .to_string(),
            ),
            Refusal::Over { .. } => Some("raise OMK_BUDGET, or wait for the next period".to_string()),
            Refusal::Unbounded(_) => Some(
                "name a model with a known price, or give one with --price, and limit the answer; or unset OMK_BUDGET"
                    .to_string(),
            ),
            Refusal::Contended(_) => Some("run it again".to_string()),
            Refusal::Ledger(error) => error.hint.clone(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Over { standing, needed } => {
                write!(
                    f,
                    "the budget {} is too small: limit {}, spent {}, reserved {}, needed {needed}",
                    standing.budget, standing.budget.limit, standing.spent, standing.reserved
                )?;
                match standing.unknown {
                    0 => Ok(()),
                    1 => f.write_str("; 1 run of unknown cost is not counted"),
                    n => write!(f, "; {n} runs of unknown cost are not counted"),
                }
            }
            Refusal::Unbounded(budget) => write!(
                f,
                "the budget {budget} cannot be kept: what this run may cost at most is not known"
            ),
            Refusal::Contended(budget) => write!(
                f,
                "the budget {budget} is being asked of by too many runs at once"
            ),
            Refusal::Ledger(error) => {
                write!(f, "no budget can be kept without the ledger: {error}")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// Records a run that is about to start, if every budget that is meant for it has room for its worst case.
///
/// Afterwards `run` is what the ledger holds: open and granted, or failed, uncharged and over. The period is that of the
/// run's own beginning.
///
/// # Errors
///
/// See [`Refusal`]; the run must not send anything.
pub fn reserve<S: CostSink, T: Timer>(
    tracker: &mut CostTracker<S>,
    run: &mut SessionCost,
    budgets: &[Budget],
    clock: Clock,
    timer: &mut T,
) -> Result<(), Refusal> {
    let meant = budgets.iter().filter(|budget| budget.is_for(run));
    let budgets: Vec<Budget> = meant.cloned().collect();
    run.status = SessionStatus::Open;
    run.reservation = Reservation::Granted;
    if run.kind == CostKind::ListPriceEquivalent || budgets.is_empty() {
        return tracker.record(run).map_err(Refusal::Ledger);
    }
    let Some(needed) = run.worst_case_usd else {
        withdraw(run, clock);
        tracker.record(run).map_err(Refusal::Ledger)?;
        let budget = budgets.into_iter().next();
        return match budget {
            Some(budget) => Err(Refusal::Unbounded(budget)),
            None => Ok(()),
        };
    };
    run.reservation = Reservation::Asked;
    tracker.record(run).map_err(Refusal::Ledger)?;
    let result = ask(tracker, run, needed, &budgets, clock, timer);
    if let Err(refusal) = &result {
        withdraw(run, clock);
        let withdrawn = tracker.update(run);
        if let (Err(error), false) = (withdrawn, matches!(refusal, Refusal::Ledger(_))) {
            return Err(Refusal::Ledger(error));
        }
    }
    result
}

fn withdraw(run: &mut SessionCost, clock: Clock) {
    run.status = SessionStatus::Failed;
    run.charged = Charge::No;
    run.ended_at = Some(clock::format_rfc3339(clock.now()));
}

/// The dance of the module's documentation, from the record being written as asked.
fn ask<S: CostSink, T: Timer>(
    tracker: &mut CostTracker<S>,
    run: &mut SessionCost,
    needed: Usd,
    budgets: &[Budget],
    clock: Clock,
    timer: &mut T,
) -> Result<(), Refusal> {
    let started = clock::parse_rfc3339(&run.started_at).unwrap_or_else(|_| clock.now());
    let since = timer.elapsed();
    loop {
        let (standings, _) =
            standings(tracker, budgets, started, Some(&run.id)).map_err(Refusal::Ledger)?;
        let fits_beside = |counted: &dyn Fn(&Standing) -> Usd| {
            standings
                .iter()
                .find(|standing| counted(standing) + needed > standing.budget.limit)
        };
        if let Some(standing) = fits_beside(&Standing::settled) {
            let standing = Box::new(standing.clone());
            return Err(Refusal::Over { standing, needed });
        }
        let first_in_the_way = fits_beside(&Standing::total);
        let is_behind = fits_beside(&|standing| {
            let [earlier, _] = standing.asking;
            standing.settled() + earlier
        })
        .is_some();
        let next = match (run.reservation, first_in_the_way) {
            (Reservation::Asked, None) => Reservation::Granted,
            _ if is_behind => Reservation::Waiting,
            // Who waited must ask, and then look again: what was seen while waiting binds nobody.
            _ => Reservation::Asked,
        };
        if next != run.reservation {
            run.reservation = next;
            tracker.update(run).map_err(Refusal::Ledger)?;
            match next {
                Reservation::Granted => return Ok(()),
                Reservation::Asked => continue,
                Reservation::Waiting => {}
            }
        }
        if let Some(standing) = first_in_the_way
            && timer.elapsed().saturating_sub(since) > PATIENCE
        {
            return Err(Refusal::Contended(standing.budget.clone()));
        }
        let millis = 2 + u64::from(timer.jitter()) / 50;
        timer.sleep(Duration::from_millis(millis));
    }
}
