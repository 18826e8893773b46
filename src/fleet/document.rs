//! The document that all machines of a fleet agree on: what was spent, what is reserved, and by whom.
//!
//! Pure data and arithmetic. Amounts are decimal strings, since a JSON number that passes through a double may lose digits.
//! The document stays small: sums for [`KEPT_DAYS`] days, one entry for each run under way, and one for each run whose cost
//! nobody knows.
//!
//! Days are those on which runs began, as the machine that ran them counts them, so a cap for a day holds over all runs
//! labelled with that day, whatever the clocks of the machines say.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::catalog::money::Usd;
use crate::cost::budget::Budget;
use crate::cost::budget::TagFilter;
use crate::runtime::clock;

/// The version of the document that this program writes.
pub const VERSION: u32 = 1;
/// Sums are kept for this many days on which runs began. The longest budget is a month of 31 days; the rest leaves room for
/// machines whose clocks are wrong, each of which adds a day. Counting days instead of comparing dates means that a clock
/// in the future cannot remove the sums of today.
pub const KEPT_DAYS: usize = 70;
/// Recently settled runs that the document remembers.
pub const KEPT_DONE: usize = 64;
/// The scope of all runs.
pub const ALL: &str = "";

const FORMAT: &str = "omk-fleet";

/// An amount, written as the string of its exact decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exact(Usd);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.exact_decimal().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Exact, D::Error> {
        let text = String::deserialize(deserializer)?;
        Usd::parse(&text)
            .map(Exact)
            .map_err(serde::de::Error::custom)
    }
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The most that the run can cost; `None` when nothing bounds it.
    usd: Option<Exact>,
    /// The machine that runs it.
    pub host: String,
    /// When it began, RFC 3339 in UTC.
    pub since: String,
    /// When it should be over, RFC 3339 in UTC. After that anyone may mark it unknown.
    pub due: String,
    /// Labels of the run, which decide the budgets that it counts in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Hold {
    /// A reservation of a run that began at `since` on `host`.
    pub fn new(
        usd: Option<Usd>,
        host: impl Into<String>,
        since: impl Into<String>,
        due: SystemTime,
        tags: BTreeMap<String, String>,
    ) -> Hold {
        Hold {
            usd: usd.map(Exact),
            host: host.into(),
            since: since.into(),
            due: clock::format_rfc3339(due),
            tags,
        }
    }

    /// The most that the run can cost.
    pub fn usd(&self) -> Option<Usd> {
        self.usd.map(|exact| exact.0)
    }

    /// The day on which the run began, `2026-11-20`.
    pub fn day(&self) -> &str {
        self.since.get(..10).unwrap_or(&self.since)
    }

    fn is_in(&self, scope: &str) -> bool {
        match scope.split_once('=') {
            None if scope == ALL => true,
            None => self.tags.contains_key(scope),
            Some((key, value)) => self.tags.get(key).is_some_and(|known| known == value),
        }
    }
}

/// A run that was settled a short while ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    run: String,
    usd: Exact,
    /// The scopes that it was added to.
    scopes: Vec<String>,
}

/// What a run came to in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It cost this.
    Cost(Usd),
    /// Nobody knows; at most this, where that is known.
    Unknown(Option<Usd>),
    /// Nothing was sent: the reservation is withdrawn.
    Withdrawn,
}

/// How things stand with a budget over the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The budget.
    pub budget: Budget,
    /// What settled runs cost.
    pub spent: Usd,
    /// What runs under way, and runs of unknown cost, can cost at most.
    pub reserved: Usd,
    /// Runs of which neither cost nor bound is known; they are in no sum.
    pub unknown: u64,
    /// The day from which on runs with the label are counted, if that is later than the begin of the period.
    pub since: Option<String>,
}

impl Standing {
    /// Whether this much more fits.
    pub fn fits(&self, more: Usd) -> bool {
        self.spent
            .checked_add(self.reserved)
            .and_then(|sum| sum.checked_add(more))
            .is_some_and(|sum| sum <= self.budget.limit)
    }
}

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    format: String,
    version: u32,
    /// Rises with every write, so that no two versions are the same bytes.
    revision: u64,
    /// The scopes that are summed, each with the day on which that began.
    scopes: BTreeMap<String, String>,
    /// Settled sums by day and scope.
    days: BTreeMap<String, BTreeMap<String, Exact>>,
    /// Runs under way.
    open: BTreeMap<String, Hold>,
    /// Runs whose cost nobody knows, counted at their bound.
    unknown: BTreeMap<String, Hold>,
    /// Recently settled runs, the oldest first.
    done: Vec<Done>,
    /// Records of days before this one were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cleared: Option<String>,
}

impl Default for Document {
    fn default() -> Document {
        Document {
            format: FORMAT.to_string(),
            version: VERSION,
            revision: 0,
            scopes: BTreeMap::new(),
            days: BTreeMap::new(),
            open: BTreeMap::new(),
            unknown: BTreeMap::new(),
            done: Vec::new(),
            cleared: None,
        }
    }
}

/// Why bytes are not a document that this program can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentError {
    /// A later version of omk wrote it.
    Newer(u32),
    /// It is not a document of a fleet.
    Invalid(String),
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocumentError::Newer(version) => write!(
                f,
                "it has version {version}, and this omk knows version {VERSION}"
            ),
            DocumentError::Invalid(why) => write!(f, "it is not a fleet document: {why}"),
        }
    }
}

impl std::error::Error for DocumentError {}

/// What every version of the document has in common.
#[derive(Deserialize)]
struct Mark {
    format: String,
    version: u32,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// It is of a later version, or is not a document.
    pub fn parse(bytes: &[u8]) -> Result<Document, DocumentError> {
        let invalid = |error: serde_json::Error| DocumentError::Invalid(error.to_string());
        let mark: Mark = serde_json::from_slice(bytes).map_err(invalid)?;
        if mark.format != FORMAT {
            let why = format!("its format is \"{}\"", mark.format);
            return Err(DocumentError::Invalid(why));
        }
        if mark.version > VERSION {
            return Err(DocumentError::Newer(mark.version));
        }
        serde_json::from_slice(bytes).map_err(invalid)
    }

    /// Counts a write.
    pub(crate) fn advance(&mut self) {
        self.revision += 1;
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A map of strings always serializes; an empty text would be refused by every reader.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Runs under way.
    pub fn open(&self) -> &BTreeMap<String, Hold> {
        &self.open
    }

    /// Runs whose cost nobody knows.
    pub fn unknown(&self) -> &BTreeMap<String, Hold> {
        &self.unknown
    }

    /// The scopes that are summed: the empty one for all runs, else `KEY` or `KEY=VALUE`.
    pub fn scopes(&self) -> impl Iterator<Item = (&str, &str)> {
        let scopes = self.scopes.iter();
        scopes.map(|(scope, since)| (scope.as_str(), since.as_str()))
    }

    /// Settled sums of all runs by day.
    pub fn days(&self) -> impl Iterator<Item = (&str, Usd)> {
        self.days.iter().map(|(day, sums)| {
            let sum = sums.get(ALL).map_or(Usd::ZERO, |exact| exact.0);
            (day.as_str(), sum)
        })
    }

    /// The first day whose records were not removed.
    pub fn cleared(&self) -> Option<&str> {
        self.cleared.as_deref()
    }

    /// Notes that records of days before this one are removed.
    pub fn clear(&mut self, before: &str) {
        if self.cleared.as_deref().is_none_or(|known| known < before) {
            self.cleared = Some(before.to_string());
        }
    }

    /// Whether this run was settled a short while ago.
    pub fn was_settled(&self, run: &str) -> bool {
        self.done.iter().any(|done| done.run == run)
    }

    /// Sums the scope of a budget from this day on. Runs that were settled before are not in its sums.
    pub fn register(&mut self, tag: Option<&TagFilter>, day: &str) {
        for scope in [ALL.to_string(), scope_of(tag)] {
            self.scopes.entry(scope).or_insert_with(|| day.to_string());
        }
    }

    /// How things stand with a budget, in the period of it that the day is in. `except` is a run that is not to count.
    pub fn standing(&self, budget: &Budget, day: &str, except: Option<&str>) -> Standing {
        let scope = scope_of(budget.tag.as_ref());
        let (from, until) = period(budget, day);
        let is_in = |day: &str| from.as_str() <= day && day < until.as_str();
        let mut standing = Standing {
            budget: budget.clone(),
            spent: Usd::ZERO,
            reserved: Usd::ZERO,
            unknown: 0,
            since: None,
        };
        for (day, sums) in &self.days {
            if let Some(sum) = sums.get(&scope).filter(|_| is_in(day)) {
                standing.spent = standing.spent + sum.0;
            }
        }
        for (run, hold) in self.open.iter().chain(&self.unknown) {
            if Some(run.as_str()) == except || !is_in(hold.day()) || !hold.is_in(&scope) {
                continue;
            }
            match hold.usd() {
                Some(usd) => standing.reserved = standing.reserved + usd,
                None => standing.unknown += 1,
            }
        }
        let since = self.scopes.get(&scope);
        let is_late = |since: &&String| scope != ALL && from.as_str() < since.as_str();
        standing.since = since.filter(is_late).cloned();
        standing
    }

    /// Reserves, if every budget has room. The hold replaces an earlier one of the same run.
    ///
    /// # Errors
    ///
    /// The first budget that has no room; nothing is changed but the scopes.
    pub fn reserve(
        &mut self,
        run: &str,
        hold: Hold,
        budgets: &[Budget],
    ) -> Result<(), Box<Standing>> {
        for budget in budgets {
            self.register(budget.tag.as_ref(), hold.day());
        }
        for budget in budgets {
            let standing = self.standing(budget, hold.day(), Some(run));
            let fits = hold.usd().is_some_and(|usd| standing.fits(usd));
            if hold.is_in(&scope_of(budget.tag.as_ref())) && !fits {
                return Err(Box::new(standing));
            }
        }
        self.register(None, hold.day());
        self.unknown.remove(run);
        self.open.insert(run.to_string(), hold);
        Ok(())
    }

    /// Replaces a reservation by what the run came to. Returns whether anything changed: settling twice with the same
    /// outcome is settling once. A run that the document does not know is left alone; whether it was settled long ago or
    /// never reserved is for the caller to find out.
    pub fn settle(&mut self, run: &str, hold: &Hold, outcome: Outcome) -> bool {
        let known = match self.open.remove(run) {
            Some(known) => Some((known, true)),
            None => self.unknown.remove(run).map(|known| (known, false)),
        };
        let Some((mut known, was_open)) = known else {
            return self.correct(run, hold, outcome);
        };
        match outcome {
            Outcome::Cost(usd) => {
                let scopes = self.add(&known, usd);
                self.done.retain(|done| done.run != run);
                self.done.push(Done {
                    run: run.to_string(),
                    usd: Exact(usd),
                    scopes,
                });
                let surplus = self.done.len().saturating_sub(KEPT_DONE);
                self.done.drain(..surplus);
            }
            Outcome::Unknown(usd) => {
                let before = known.clone();
                known.usd = usd.map(Exact);
                let changed = was_open || known != before;
                self.unknown.insert(run.to_string(), known);
                return changed;
            }
            Outcome::Withdrawn => {}
        }
        true
    }

    /// Another cost for a run that was settled a short while ago.
    fn correct(&mut self, run: &str, hold: &Hold, outcome: Outcome) -> bool {
        let Outcome::Cost(usd) = outcome else {
            return false;
        };
        let known = self.done.iter_mut().find(|done| done.run == run);
        let Some(done) = known.filter(|done| done.usd.0 != usd) else {
            return false;
        };
        let before = std::mem::replace(&mut done.usd, Exact(usd)).0;
        let sums = self.days.get_mut(hold.day());
        for (scope, sum) in sums.into_iter().flatten() {
            if done.scopes.contains(scope) {
                let rest = sum.0.checked_sub(before).unwrap_or(Usd::ZERO);
                sum.0 = rest + usd;
            }
        }
        true
    }

    /// Adds to the sums; returns the scopes that were added to.
    fn add(&mut self, hold: &Hold, usd: Usd) -> Vec<String> {
        let scopes: Vec<String> = self
            .scopes
            .keys()
            .filter(|scope| hold.is_in(scope))
            .cloned()
            .collect();
        let sums = self.days.entry(hold.day().to_string()).or_default();
        for scope in &scopes {
            let sum = sums.entry(scope.clone()).or_insert(Exact(Usd::ZERO));
            sum.0 = sum.0 + usd;
        }
        while self.days.len() > KEPT_DAYS {
            self.days.pop_first();
        }
        if self.days.len() == KEPT_DAYS
            && let Some((oldest, _)) = self.days.first_key_value()
        {
            self.unknown.retain(|_, hold| hold.day() >= oldest.as_str());
        }
        scopes
    }

    /// Marks overdue reservations as unknown, at their bound. They are never dropped: the money may have been spent.
    /// `except` is a run that its owner knows to be alive. Returns whether anything changed.
    pub fn expire(&mut self, now: SystemTime, except: &str) -> bool {
        let is_overdue = |hold: &Hold| match clock::parse_rfc3339(&hold.due) {
            Ok(due) => due < now,
            Err(_) => true,
        };
        let overdue = self.open.iter();
        let overdue = overdue.filter(|(run, hold)| run.as_str() != except && is_overdue(hold));
        let overdue: Vec<String> = overdue.map(|(run, _)| run.clone()).collect();
        for run in &overdue {
            if let Some(hold) = self.open.remove(run) {
                self.unknown.insert(run.clone(), hold);
            }
        }
        !overdue.is_empty()
    }
}

/// The name of a scope: empty for all runs, else `KEY` or `KEY=VALUE`. A key has no `=`, so names differ where scopes do.
fn scope_of(tag: Option<&TagFilter>) -> String {
    tag.map_or(ALL.to_string(), ToString::to_string)
}

/// The first day of the budget's period around a day, and the first one after it.
fn period(budget: &Budget, day: &str) -> (String, String) {
    let moment = clock::parse_rfc3339(&format!("{day}T00:00:00Z"));
    let period = moment.map(|moment| budget.per.around(moment)).ok();
    let date = |moment: Option<SystemTime>| moment.map(clock::format_date);
    let from = period.and_then(|period| date(period.from));
    let until = period.and_then(|period| date(period.until));
    // What is not a day is in a period of its own.
    (
        from.unwrap_or_else(|| day.to_string()),
        until.unwrap_or_else(|| format!("{day}\u{0}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::budget::parse_budgets;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    fn hold(amount: &str, day: &str, tags: &[(&str, &str)]) -> Hold {
        let since = format!("{day}T10:00:00Z");
        let due = clock::parse_rfc3339(&format!("{day}T11:00:00Z")).unwrap();
        let tags = tags
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        let amount = (!amount.is_empty()).then(|| usd(amount));
        Hold::new(amount, "ci-1", since, due, tags)
    }

    fn standing(document: &Document, budget: &str, day: &str) -> (String, String, u64) {
        let standing = document.standing(&budget.parse().unwrap(), day, None);
        (
            standing.spent.exact_decimal(),
            standing.reserved.exact_decimal(),
            standing.unknown,
        )
    }

    #[test]
    fn a_reservation_becomes_its_cost_once() {
        let mut document = Document::default();
        let budgets = parse_budgets("1/day").unwrap();
        let day = "2026-11-20";
        document
            .reserve("a", hold("0.6", day, &[]), &budgets)
            .unwrap();
        let refused = document.reserve("b", hold("0.400000000001", day, &[]), &budgets);
        assert_eq!(refused.unwrap_err().reserved, usd("0.6"));
        document
            .reserve("b", hold("0.4", day, &[]), &budgets)
            .unwrap();
        let cost = Outcome::Cost(usd("0.1"));
        assert!(document.settle("a", &hold("0.6", day, &[]), cost));
        let after = document.clone();
        assert!(!document.settle("a", &hold("0.6", day, &[]), cost));
        assert_eq!(document, after);
        assert_eq!(
            standing(&document, "1/day", day),
            ("0.1".into(), "0.4".into(), 0)
        );
        // A better figure replaces the first one.
        assert!(document.settle("a", &hold("0.6", day, &[]), Outcome::Cost(usd("0.2"))));
        assert_eq!(
            standing(&document, "1/day", day),
            ("0.2".into(), "0.4".into(), 0)
        );
        assert_eq!(Document::parse(&document.to_bytes()), Ok(document));
    }

    #[test]
    fn labels_and_periods_have_sums_of_their_own() {
        let mut document = Document::default();
        let budgets = parse_budgets("10/week,tag:pr=1/month,tag:team=red=2/day").unwrap();
        // Monday the 16th; the Sunday before it is in another week and the same month.
        for (run, day, tags) in [
            ("a", "2026-11-15", &[("pr", "7")][..]),
            ("b", "2026-11-16", &[("team", "red")]),
            ("c", "2026-11-17", &[("team", "blue")]),
        ] {
            document
                .reserve(run, hold("0.5", day, tags), &budgets)
                .unwrap();
            document.settle(run, &hold("0.5", day, tags), Outcome::Cost(usd("0.5")));
        }
        let spent = |budget, day| standing(&document, budget, day).0;
        assert_eq!(spent("10/week", "2026-11-22"), "1");
        assert_eq!(spent("10/month", "2026-11-22"), "1.5");
        assert_eq!(spent("tag:pr=1/month", "2026-11-01"), "0.5");
        assert_eq!(spent("tag:team=red=1/day", "2026-11-16"), "0.5");
        assert_eq!(spent("tag:team=red=1/day", "2026-11-17"), "0");
        // A run without the label is not held against the budget for it.
        let wide = hold("5", "2026-11-17", &[]);
        assert!(document.reserve("d", wide, &budgets).is_ok());
    }

    #[test]
    fn overdue_runs_count_at_their_bound_until_their_cost_is_known() {
        let mut document = Document::default();
        let budgets = parse_budgets("1/day").unwrap();
        let day = "2026-11-20";
        for run in ["a", "b"] {
            document
                .reserve(run, hold("0.5", day, &[]), &budgets)
                .unwrap();
        }
        let at = |text| clock::parse_rfc3339(text).unwrap();
        assert!(!document.expire(at("2026-11-20T10:59:59Z"), "b"));
        assert!(document.expire(at("2026-11-20T11:00:01Z"), "b"));
        assert_eq!(document.open().len(), 1);
        assert!(
            document
                .reserve("c", hold("0.1", day, &[]), &budgets)
                .is_err()
        );
        assert!(document.settle("a", &hold("0.5", day, &[]), Outcome::Cost(usd("0.05"))));
        assert_eq!(
            standing(&document, "1/day", day),
            ("0.05".into(), "0.5".into(), 0)
        );
        // Unknown stays at its bound, and a run without one is counted by number.
        assert!(document.settle("b", &hold("0.5", day, &[]), Outcome::Unknown(None)));
        assert_eq!(
            standing(&document, "1/day", day),
            ("0.05".into(), "0".into(), 1)
        );
        let unbounded = document.reserve("d", hold("", day, &[]), &budgets);
        assert!(unbounded.is_err());
    }

    #[test]
    fn a_label_is_counted_from_the_day_on_which_its_budget_was_first_used() {
        let mut document = Document::default();
        let day = "2026-11-20";
        let tagged = || hold("1", day, &[("pr", "1")]);
        document.reserve("a", tagged(), &[]).unwrap();
        document.settle("a", &tagged(), Outcome::Cost(usd("1")));
        document.reserve("b", tagged(), &[]).unwrap();
        let budget: Budget = "tag:pr=5/month".parse().unwrap();
        document
            .reserve("c", tagged(), std::slice::from_ref(&budget))
            .unwrap();
        let standing = document.standing(&budget, day, None);
        // The settled run is in no sum of the label; the open one is.
        assert_eq!((standing.spent, standing.reserved), (Usd::ZERO, usd("2")));
        assert_eq!(standing.since.as_deref(), Some(day));
    }

    #[test]
    fn a_clock_in_the_future_removes_no_sums() {
        let mut document = Document::default();
        for day in 1..=28 {
            let hold = hold("1", &format!("2026-11-{day:02}"), &[]);
            document.reserve("a", hold.clone(), &[]).unwrap();
            document.settle("a", &hold, Outcome::Cost(usd("1")));
        }
        let future = hold("1", "2099-01-01", &[]);
        document.reserve("z", future.clone(), &[]).unwrap();
        document.settle("z", &future, Outcome::Cost(usd("1")));
        assert_eq!(standing(&document, "100/month", "2026-11-28").0, "28");
        for number in 0..100 {
            let hold = hold(
                "1",
                &format!("2100-{:02}-{:02}", number / 28 + 1, number % 28 + 1),
                &[],
            );
            document.reserve("y", hold.clone(), &[]).unwrap();
            document.settle("y", &hold, Outcome::Cost(usd("1")));
        }
        assert_eq!(document.days().count(), KEPT_DAYS);
    }

    #[test]
    fn other_files_and_later_versions_are_refused() {
        let later = Document {
            version: VERSION + 1,
            ..Document::default()
        };
        let error = Document::parse(&later.to_bytes()).unwrap_err();
        assert_eq!(error, DocumentError::Newer(VERSION + 1));
        for bytes in [&b"{}"[..], b"", br#"{"format":"x","version":1}"#] {
            assert!(matches!(
                Document::parse(bytes),
                Err(DocumentError::Invalid(_))
            ));
        }
    }
}
