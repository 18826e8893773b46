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
//! count: their amounts are not billed. Runs without a known amount or bound cannot count; their number is reported. A
//! run that has no bound itself is refused: no budget could hold it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use std::time::SystemTime;

use crate::catalog::money::Currency;
use crate::catalog::money::Usd;
use crate::cost::record::Charge;
use crate::cost::record::CostKind;
use crate::cost::record::Reservation;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::sink::CostSink;
use crate::cost::sink::DAMAGED;
use crate::cost::sink::Notes;
use crate::cost::sink::Runs;
use crate::cost::sink::SinkError;
use crate::cost::sums::Labels;
use crate::cost::sums::Sums;
use crate::cost::tracker::CostTracker;
use crate::cost::view::Period;
use crate::cost::view::micros;
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
                let day = micros(moment).div_euclid(86_400_000_000);
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
    /// What that is in: runs billed in another currency do not count in it.
    pub currency: Currency,
    /// In which time.
    pub per: Per,
    /// Which runs; `None` for all.
    pub tag: Option<TagFilter>,
}

impl Budget {
    /// Whether it is meant for a run with these labels, whatever that is billed in.
    pub(crate) fn names(&self, run: &SessionCost) -> bool {
        let tag = self.tag.as_ref();
        tag.is_none_or(|tag| tag.matches(run.tags.get(&tag.key).map(String::as_str)))
    }

    /// Whether it is meant for this run.
    pub fn is_for(&self, run: &SessionCost) -> bool {
        run.currency == self.currency && self.names(run)
    }
}

/// As it is written in `OMK_BUDGET`.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.tag {
            write!(f, "tag:{tag}=")?;
        }
        let unit = match self.currency {
            Currency::Usd => "",
            Currency::Cny => CNY,
        };
        let limit = self.limit.exact_decimal();
        write!(f, "{limit}{unit}/{}", self.per.name())
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
            "\"{}\": {}; a budget is an amount over a period, such as 5/day, 40/month or tag:ci=1/day in USD, or 30cny/day",
            self.part, self.why
        )
    }
}

impl std::error::Error for BudgetError {}

/// What follows the amount of a budget in CNY.
const CNY: &str = "cny";

/// Reads `5/day`, `40/month`, `30cny/day`, `tag:ci=1/day` (any run that has the label `ci`) or `tag:team=red=2/week`.
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
        let (figure, currency) = match amount.strip_suffix(CNY) {
            Some(figure) => (figure, Currency::Cny),
            None => (amount, Currency::Usd),
        };
        let limit = Usd::parse(figure).map_err(|e| wrong(format!("the amount {amount} is {e}")))?;
        let known = Per::ALL.into_iter().find(|known| known.name() == per);
        let per = known.ok_or_else(|| {
            wrong(format!(
                "the period \"{per}\" is not one of day, week and month"
            ))
        })?;
        Ok(Budget {
            limit,
            currency,
            per,
            tag,
        })
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

    /// The refusal for runs that may have cost something that nothing bounds, if there are any.
    pub fn uncounted(&self) -> Option<Refusal> {
        (self.unknown > 0).then(|| Refusal::Uncounted {
            budget: self.budget.clone(),
            runs: self.unknown,
        })
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

    fn add(&mut self, runs: &Runs<'_>, own_id: &str) {
        let mut sums = Sums::default();
        runs.add_to(&mut sums);
        let money = match self.budget.currency {
            Currency::Usd => sums.metered,
            Currency::Cny => sums.cny,
        };
        self.spent = self.spent + money.usd;
        self.reserved = self.reserved + money.at_most;
        self.unknown += money.unpriced;
        let Runs::One(run) = runs else {
            return;
        };
        if run.currency != self.budget.currency {
            return;
        }
        let Some(usd) = run.at_most_usd() else {
            return;
        };
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
/// The ledger cannot be read, or something in it is damaged that may count: too little would be reckoned with.
pub fn standings<S: CostSink>(
    tracker: &CostTracker<S>,
    budgets: &[Budget],
    now: SystemTime,
    except: Option<&str>,
) -> Result<(Vec<Standing>, Notes), SinkError> {
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
    let keys = budgets.iter().filter_map(|budget| budget.tag.as_ref());
    let keys = keys.map(|tag| tag.key.clone()).chain([DAMAGED.to_string()]);
    let notes = tracker.sums(whole, &Labels::Some(keys.collect()), &mut |runs| {
        for (period, standing) in &mut standings {
            let is_meant = match runs {
                Runs::One(run) => Some(run.id) != except && period.contains(run.started_micros),
                Runs::Many(group, _) => period.contains_day(group.day),
            };
            let tag = standing.budget.tag.as_ref();
            // What cannot be read may have had any label.
            let has_tag =
                |tag: &TagFilter| tag.matches(runs.tag(&tag.key)) || runs.tag(DAMAGED).is_some();
            if is_meant && tag.is_none_or(has_tag) {
                standing.add(runs, own_id);
            }
        }
    })?;
    for (period, _) in &standings {
        notes.require_whole(*period)?;
    }
    let standings = standings.into_iter().map(|(_, standing)| standing);
    Ok((standings.collect(), notes))
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
    /// Nothing bounds what it may cost.
    Unbounded(Budget),
    /// It is billed in a currency that no budget is in, and omk converts none.
    Currency {
        /// A budget that would have counted it.
        budget: Budget,
        /// What the run is billed in.
        currency: Currency,
    },
    /// Other runs in the period may have cost something that nothing bounds.
    Uncounted {
        /// The budget that they count in.
        budget: Budget,
        /// How many.
        runs: u64,
    },
    /// Others asked at the same moment and did not come to an end in [`PATIENCE`].
    Contended(Budget),
    /// The ledger failed, so it is not known.
    Ledger(SinkError),
}

impl Refusal {
    /// How to fix it.
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
            Refusal::Uncounted { .. } => Some(
                "`omk cost list --unknown` names them; `omk cost settle ID --usd X` or `omk cost settle ID --void` says what each cost"
                    .to_string(),
            ),
            Refusal::Currency { currency, .. } => Some(format!(
                "add a budget in {currency} to OMK_BUDGET, such as 30{}/day",
                currency.name().to_ascii_lowercase()
            )),
            Refusal::Contended(_) => Some("run it again".to_string()),
            Refusal::Ledger(error) => error.hint.clone(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Over { standing, needed } => {
                let currency = standing.budget.currency;
                let [limit, spent, reserved, needed] = [
                    standing.budget.limit,
                    standing.spent,
                    standing.reserved,
                    *needed,
                ]
                .map(|usd| usd.shown_in(currency));
                write!(
                    f,
                    "the budget {} is too small: limit {limit}, spent {spent}, reserved {reserved}, needed {needed}",
                    standing.budget
                )
            }
            Refusal::Currency { budget, currency } => write!(
                f,
                "the budget {budget} cannot be kept: this run is billed in {currency}"
            ),
            Refusal::Uncounted { budget, runs: 1 } => write!(
                f,
                "the budget {budget} cannot be kept: 1 run in its period has an unknown cost"
            ),
            Refusal::Uncounted { budget, runs } => write!(
                f,
                "the budget {budget} cannot be kept: {runs} runs in its period have an unknown cost"
            ),
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
    let other = budgets.iter().find(|budget| budget.names(run));
    let budgets: Vec<Budget> = meant.cloned().collect();
    run.status = SessionStatus::Open;
    run.reservation = Reservation::Granted;
    if let Some(other) = other.filter(|_| budgets.is_empty())
        && run.kind != CostKind::ListPriceEquivalent
    {
        withdraw(run, clock);
        tracker.record(run).map_err(Refusal::Ledger)?;
        return Err(Refusal::Currency {
            budget: other.clone(),
            currency: run.currency,
        });
    }
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
        if let Some(uncounted) = standings.iter().find_map(Standing::uncounted) {
            return Err(uncounted);
        }
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
            // Who waited must ask, and then look again: what was seen while waiting may have changed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::record::Owner;
    use crate::cost::record::SessionType;
    use crate::cost::sink::InMemoryCostSink;
    use crate::runtime::clock::ManualTimer;
    use std::ops::ControlFlow;

    const NOON: &str = "2026-11-20T12:00:00Z";

    fn at(text: &str) -> SystemTime {
        clock::parse_rfc3339(text).unwrap()
    }

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    #[test]
    fn budgets_are_read_and_written() {
        for text in [
            "5/day,40/month,tag:ci=1/day",
            "0.000001/week",
            "tag:team=red=2.5/month",
            "",
        ] {
            let budgets = parse_budgets(text).unwrap();
            let written: Vec<String> = budgets.iter().map(Budget::to_string).collect();
            assert_eq!(written.join(","), text);
        }
        let budgets = parse_budgets(" 5/day , tag:ci=1/day ").unwrap();
        assert_eq!(budgets[0].tag, None);
        let tag = budgets[1].tag.as_ref().unwrap();
        assert!(tag.matches(Some("yes")) && !tag.matches(None));
    }

    #[test]
    fn what_is_no_budget_is_named() {
        for (text, why) in [
            ("5", "no / between amount and period"),
            ("5/day,", "no / between amount and period"),
            ("5/day,$4/month", "the amount $4 is not a decimal number"),
            ("5/hour", "the period \"hour\" is not one of"),
            ("tag:ci/day", "no = after the tag"),
            ("tag:=1/day", "the tag has no name"),
            ("-1/day", "the amount -1 is negative"),
        ] {
            let error = parse_budgets(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            let part = text.rsplit(',').next().unwrap();
            assert!(error.starts_with(&format!("\"{part}\"")), "{text}: {error}");
        }
    }

    #[test]
    fn periods_are_those_of_the_calendar_in_utc() {
        for (per, moment, from, until) in [
            (Per::Day, "2026-11-20T00:00:00Z", "2026-11-20", "2026-11-21"),
            (Per::Day, "2026-12-31T23:59:59Z", "2026-12-31", "2027-01-01"),
            (
                Per::Week,
                "2026-11-20T12:00:00Z",
                "2026-11-16",
                "2026-11-23",
            ),
            (
                Per::Week,
                "2026-11-16T00:00:00Z",
                "2026-11-16",
                "2026-11-23",
            ),
            (
                Per::Week,
                "2026-11-22T23:59:59Z",
                "2026-11-16",
                "2026-11-23",
            ),
            (
                Per::Month,
                "2026-11-30T23:59:59Z",
                "2026-11-01",
                "2026-12-01",
            ),
            (
                Per::Month,
                "2026-12-01T00:00:00Z",
                "2026-12-01",
                "2027-01-01",
            ),
            (
                Per::Month,
                "2028-02-29T01:00:00Z",
                "2028-02-01",
                "2028-03-01",
            ),
        ] {
            let period = per.around(at(moment));
            let date = |moment: Option<SystemTime>| clock::format_date(moment.unwrap());
            assert_eq!(
                (date(period.from).as_str(), date(period.until).as_str()),
                (from, until),
                "{moment}"
            );
        }
    }

    fn run(id: &str, worst: &str) -> SessionCost {
        let mut run = SessionCost::open(id, SessionType::Prompt, NOON);
        run.worst_case_usd = Some(usd(worst));
        run.owner = Owner::current();
        run
    }

    fn ask_for(
        tracker: &mut CostTracker<InMemoryCostSink>,
        run: &mut SessionCost,
        budgets: &str,
    ) -> (Result<(), Refusal>, ManualTimer) {
        let mut timer = ManualTimer::default();
        let clock = Clock::Fixed(at(NOON));
        let budgets = parse_budgets(budgets).unwrap();
        (reserve(tracker, run, &budgets, clock, &mut timer), timer)
    }

    fn get(tracker: &CostTracker<InMemoryCostSink>, id: &str) -> SessionCost {
        let mut found = None;
        tracker
            .sink()
            .load(&mut |run| {
                if run.id == id {
                    found = Some(run.clone());
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        found.unwrap()
    }

    #[test]
    fn a_run_is_let_in_while_there_is_room() {
        let mut tracker = CostTracker::default();
        for (id, worst, fits) in [
            ("a", "2", true),
            ("b", "2.5", true),
            ("c", "0.51", false),
            ("d", "0.5", true),
            ("e", "0.000001", false),
        ] {
            let mut run = run(id, worst);
            let (result, timer) = ask_for(&mut tracker, &mut run, "5/day,40/month");
            assert_eq!(result.is_ok(), fits, "{id}: {result:?}");
            assert_eq!(timer, ManualTimer::default());
            assert_eq!(get(&tracker, id), run);
            let status = if fits {
                SessionStatus::Open
            } else {
                SessionStatus::Failed
            };
            assert_eq!((run.status, run.charged), (status, Charge::No));
        }
        // A run that is over counts with what it did cost.
        let mut first = get(&tracker, "a");
        first.status = SessionStatus::Settled;
        first.charged = Charge::Yes;
        first.actual_usd = Some(usd("0.25"));
        first.worst_case_usd = first.actual_usd;
        tracker.settle(&first).unwrap();
        let (refused, _) = ask_for(&mut tracker, &mut run("f", "1.76"), "5/day");
        let refusal = refused.unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the budget 5/day is too small: limit $5.00, spent $0.25, reserved $3.00, needed $1.76"
        );
        assert!(refusal.hint().unwrap().contains("omk cost recover"));
        assert!(
            ask_for(&mut tracker, &mut run("g", "1.75"), "5/day")
                .0
                .is_ok()
        );
    }

    #[test]
    fn only_what_is_meant_counts() {
        let mut tracker = CostTracker::default();
        let mut other_day = run("a", "9");
        other_day.started_at = "2026-11-19T23:59:59Z".to_string();
        let mut subscribed = run("b", "9");
        subscribed.kind = CostKind::ListPriceEquivalent;
        let untagged = run("c", "9");
        for record in [&other_day, &subscribed, &untagged] {
            tracker.record(record).unwrap();
        }
        let mut tagged = run("d", "1");
        tagged.tags.insert("ci".to_string(), "yes".to_string());
        assert_eq!(ask_for(&mut tracker, &mut tagged, "tag:ci=1/day").0, Ok(()));
        // A budget for others, and a run that is not billed.
        assert_eq!(
            ask_for(&mut tracker, &mut run("e", "7"), "tag:ci=1/day").0,
            Ok(())
        );
        let mut free = run("f", "100");
        free.kind = CostKind::ListPriceEquivalent;
        assert_eq!(ask_for(&mut tracker, &mut free, "1/day").0, Ok(()));
    }

    #[test]
    fn without_a_bound_there_is_no_budget() {
        let mut tracker = CostTracker::default();
        let mut boundless = run("a", "1");
        boundless.worst_case_usd = None;
        let (refused, _) = ask_for(&mut tracker, &mut boundless, "5/day");
        let refusal = refused.unwrap_err();
        assert!(matches!(refusal, Refusal::Unbounded(_)));
        assert!(refusal.hint().unwrap().contains("--price"));
        assert_eq!(get(&tracker, "a").status, SessionStatus::Failed);
        // One that runs already, started without a budget, may cost any amount, so nothing more is let in.
        let mut running = run("b", "1");
        running.worst_case_usd = None;
        tracker.record(&running).unwrap();
        let (refused, _) = ask_for(&mut tracker, &mut run("c", "1"), "5/day");
        let refusal = refused.unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the budget 5/day cannot be kept: 1 run in its period has an unknown cost"
        );
        assert!(refusal.hint().unwrap().contains("omk cost settle"));
    }

    #[test]
    fn who_asks_at_the_same_moment_is_waited_for_and_who_is_dead_is_not() {
        for (id, other, is_dead) in [("b", "a", false), ("a", "b", false), ("a", "b", true)] {
            let mut tracker = CostTracker::default();
            let mut asking = run(other, "1");
            asking.reservation = Reservation::Asked;
            if is_dead {
                asking.owner.started.push('0');
            }
            if asking.owner.is_alive() != Some(!is_dead) {
                println!("this system does not tell who is alive");
                return;
            }
            tracker.record(&asking).unwrap();
            let mut own = run(id, "1");
            let (refused, timer) = ask_for(&mut tracker, &mut own, "1/day");
            match refused.unwrap_err() {
                Refusal::Contended(_) => {
                    assert!(!is_dead);
                    assert!(timer.elapsed() > PATIENCE);
                }
                Refusal::Over { .. } => assert!(is_dead),
                other => panic!("{other}"),
            }
            // The later one has stepped back before it gave up, the earlier one has not.
            let last = if id == "b" {
                Reservation::Waiting
            } else {
                Reservation::Asked
            };
            assert_eq!((own.status, own.reservation), (SessionStatus::Failed, last));
        }
    }

    /// Any number of contenders, each of whose steps is a write or a look, in any order: a check of the argument above.
    mod dance {
        use super::*;
        use proptest::prelude::*;
        use std::cell::RefCell;
        use std::rc::Rc;

        /// A sink that many share, and that lets others take a turn at each of its operations.
        #[derive(Clone)]
        struct Shared(Rc<RefCell<InMemoryCostSink>>, Rc<RefCell<Vec<Turn>>>);

        /// Someone who has yet to come, when and with how much.
        #[derive(Clone, Debug)]
        struct Turn {
            id: String,
            cents: u32,
            after: u32,
        }

        /// A time of which each sleep takes a quarter of all patience.
        struct Impatient(Duration);

        impl Timer for Impatient {
            fn elapsed(&self) -> Duration {
                self.0
            }

            fn sleep(&mut self, _: Duration) {
                self.0 += PATIENCE / 4;
            }

            fn jitter(&mut self) -> u16 {
                0
            }
        }

        impl Shared {
            /// Others who come now do all of their asking here, in the middle of an operation of whoever called.
            fn turn(&self) {
                let due = self.1.borrow_mut().iter_mut().position(|turn| {
                    turn.after = turn.after.saturating_sub(1);
                    turn.after == 0
                });
                if let Some(at) = due {
                    let turn = self.1.borrow_mut().remove(at);
                    let _ = self.enter(&turn);
                }
            }

            fn enter(&self, turn: &Turn) -> Result<(), Refusal> {
                let mut tracker = CostTracker::new(self.clone());
                let mut run = run(&turn.id, &format!("0.{:02}", turn.cents));
                let budgets = parse_budgets("1/day").unwrap();
                let clock = Clock::Fixed(at(NOON));
                let mut timer = Impatient(Duration::ZERO);
                reserve(&mut tracker, &mut run, &budgets, clock, &mut timer)
            }
        }

        impl CostSink for Shared {
            fn append(&mut self, record: &SessionCost) -> Result<(), SinkError> {
                self.0.borrow_mut().append(record)?;
                self.turn();
                Ok(())
            }

            fn save(&mut self, record: &SessionCost) -> Result<(), SinkError> {
                self.turn();
                self.0.borrow_mut().save(record)?;
                self.turn();
                Ok(())
            }

            fn remove(
                &mut self,
                before: SystemTime,
            ) -> Result<crate::cost::sink::Removed, SinkError> {
                self.0.borrow_mut().remove(before)
            }

            fn load(
                &self,
                visit: &mut dyn FnMut(&SessionCost) -> ControlFlow<()>,
            ) -> Result<Notes, SinkError> {
                let copy = self.0.borrow().clone();
                self.turn();
                copy.load(visit)
            }
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(300))]

            #[test]
            fn the_cap_is_never_passed(
                turns in proptest::collection::vec((0..100_u32, 1..60_u32, 1..6_u32), 1..6)
            ) {
                let turns = turns.iter().enumerate().map(|(number, (key, cents, after))| Turn {
                    id: format!("{key:03}-{number}"),
                    cents: *cents,
                    after: *after,
                });
                let turns: Vec<Turn> = turns.collect();
                let shared = Shared(Rc::default(), Rc::new(RefCell::new(turns[1..].to_vec())));
                let _ = shared.enter(&turns[0]);
                let mut granted = Usd::ZERO;
                let mut refused = Vec::new();
                shared
                    .0
                    .borrow()
                    .load(&mut |run| {
                        let worst = run.worst_case_usd.unwrap();
                        match run.status {
                            SessionStatus::Open => {
                                assert_eq!(run.reservation, Reservation::Granted);
                                granted = granted + worst;
                            }
                            _ => refused.push(worst),
                        }
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                prop_assert!(granted <= Usd::from_usd(1), "{granted}");
                prop_assert!(granted > Usd::ZERO || refused.is_empty());
            }
        }
    }
}
