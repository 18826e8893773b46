//! `omk cost report`: sums, as a table for people, as JSON and as CSV.

use std::io::IsTerminal;

use serde::Serialize;

use crate::catalog::money::{Currency, Usd};
use crate::cli::commands::cost::{align_points, counted, filter, source, trouble, warn};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared, value};
use crate::cli::flags::{LowArgs, UsageError};
use crate::cli::fleet;
use crate::cost::export::{CSV_SUMS, csv_line, csv_sums};
use crate::cost::report::{By, Filter, MAX_GROUPS, Money, Report, Summary, Sums};
use crate::runtime::clock::format_rfc3339;
use crate::runtime::table::{Align, Table};
use crate::runtime::text::escape;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost report",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "add up what runs cost, by day, model, label and more",
    doc: "Adds up the runs of the ledger, by default by day. `omk cost` alone does the same.\n\n\
Four kinds of runs are never added together. usd is what was billed per token. in doubt is what is only bounded, \
because a run is open, was killed or reported no usage; the most that it can be is shown. unpriced is the number of \
runs without a known price. plan is what the tokens of a subscription would have cost at list price. Days are in UTC.",
    examples: &[
        (
            "omk cost report --by model --since 7d",
            "The last seven days by model.",
        ),
        (
            "omk cost report --by tag --tag team --since 2026-11 --csv",
            "A month by the value of a label, for a spreadsheet.",
        ),
        (
            "omk cost report --by month --tag ci --json",
            "What CI costs a month, as JSON.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &BY,
            &TAG,
            &super::SINCE,
            &super::UNTIL,
            &CSV,
            &fleet::FLEET,
            &fleet::FLEET_TIMEOUT,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(invocation.low, env),
};

static TAG: Flag = Flag {
    doc: "Only runs with this label. With KEY alone any value will do, and {--by} tag adds up by its values; of several labels a \
run must have all.",
    ..shared::TAG_FILTER
};

static BY: Flag = Flag {
    long: "by",
    takes: Takes::Value("WHAT", |low, v| {
        low.cost.by = Some(value::word(v)?);
        Ok(())
    }),
    doc: "What to add up by. The default is day; command is prompt, plan or import, and tag is the label that {--tag} \
names, or every label there is.",
    choices: &[
        "day",
        "month",
        "model",
        "tag",
        "command",
        "transport",
        "peer",
    ],
    completes: Completes::Choices,
    ..Flag::BLANK
};

static CSV: Flag = Flag {
    long: "csv",
    takes: Takes::Nothing(|low| low.cost.csv = true),
    doc: "Print CSV. With a line of titles and exact amounts; columns are only ever added, at the end.",
    ..Flag::BLANK
};

/// The longest bar, in characters.
const BAR: usize = 20;

/// Adds up and prints.
pub(super) fn run(mut low: LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    if low.json && low.cost.csv {
        return Err(UsageError::conflict("--json", "--csv").into());
    }
    let by = low.cost.by.unwrap_or(By::Day);
    // The first label without a value is what to add up by; having it is no condition then.
    let group = match by {
        By::Tag => {
            let place = low.cost.tags.iter().position(|tag| tag.value.is_none());
            place.map(|place| low.cost.tags.remove(place).key)
        }
        _ => None,
    };
    let filter = filter(&low.cost, env)?;
    let ledger = source::open(&low.cost, env)?;
    let mut report = Report::new(by, group.clone());
    let labels = report.labels(&filter);
    let notes = ledger
        .sums(filter.period, &labels, &mut |runs| {
            if filter.matches_runs(runs) {
                report.add_runs(runs);
            }
        })
        .map_err(trouble)?;
    warn(&notes, env);
    let summary = report.finish();
    if summary.rest.is_some() {
        env.output.warning(format!(
            "there are more than {MAX_GROUPS} groups; what came after them is one"
        ));
    }
    if low.json {
        json(by, group.as_deref(), &filter, &summary, env)?;
    } else if low.cost.csv {
        csv(by, &summary, env)?;
    } else {
        let bars = std::io::stdout().is_terminal();
        env.output.print(&table(by, &summary, bars))?;
        remarks(&summary.total, env)?;
    }
    Ok(Exit::Done)
}

/// The rows with a name for each, what is beyond the bound last.
fn rows(summary: &Summary) -> impl Iterator<Item = (Option<&str>, &Sums)> {
    let rows = summary.rows.iter();
    let rest = summary.rest.iter().map(|sums| (Some("(others)"), sums));
    rows.map(|row| (row.key.as_deref(), &row.sums)).chain(rest)
}

/// The table. What no run has, such as amounts in doubt, has no column.
fn table(by: By, summary: &Summary, bars: bool) -> String {
    if summary.rows.is_empty() {
        return "no runs\n".to_string();
    }
    let total = &summary.total;
    let (doubt, unpriced) = (total.metered.in_doubt > 0, total.metered.unpriced > 0);
    let (cached, plan) = (total.cache_read > 0, total.plan.runs > 0);
    let mut columns = vec![
        (by.name(), Align::Left),
        ("runs", Align::Right),
        ("input", Align::Right),
    ];
    if cached {
        columns.push(("cached", Align::Right));
    }
    columns.extend([
        ("output", Align::Right),
        ("usd", Align::Right),
        ("share", Align::Right),
    ]);
    if bars {
        columns.push(("", Align::Left));
    }
    if doubt {
        columns.push(("in doubt", Align::Right));
    }
    if unpriced {
        columns.push(("unpriced", Align::Right));
    }
    if plan {
        columns.push(("plan", Align::Right));
    }
    let named: Vec<(String, &Sums)> = rows(summary)
        .map(|(key, sums)| {
            (
                key.map_or("-".to_string(), |key| escape(key).into_owned()),
                sums,
            )
        })
        .chain([("total".to_string(), total)])
        .collect();
    let amounts = |cell: fn(&Sums) -> String| {
        let mut cells: Vec<String> = named.iter().map(|(_, sums)| cell(sums)).collect();
        align_points(&mut cells);
        cells
    };
    let usd = amounts(|sums| billed(&sums.metered));
    let doubts = amounts(|sums| match sums.metered.in_doubt {
        0 => String::new(),
        _ => format!("<= {}", sums.metered.at_most),
    });
    let plans = amounts(|sums| match &sums.plan {
        plan if plan.runs == 0 => String::new(),
        plan if plan.usd.is_zero() && plan.unpriced + plan.in_doubt > 0 => {
            counted(plan.runs, "run")
        }
        plan => plan.usd.to_string(),
    });
    let most = rows(summary)
        .map(|(_, sums)| sums.metered.usd)
        .max()
        .unwrap_or(Usd::ZERO);
    let last = named.len() - 1;
    let mut table = Table::new(columns);
    let amounts = usd.into_iter().zip(doubts).zip(plans);
    for (place, ((name, sums), ((usd, in_doubt), planned))) in
        named.into_iter().zip(amounts).enumerate()
    {
        let prompt = sums
            .input
            .saturating_add(sums.cache_read)
            .saturating_add(sums.cache_write);
        let mut cells = vec![name, sums.runs().to_string(), prompt.to_string()];
        if cached {
            cells.push(sums.cache_read.to_string());
        }
        cells.extend([
            sums.output.to_string(),
            usd,
            share(sums.metered.usd, total.metered.usd),
        ]);
        if bars {
            cells.push(match place == last {
                true => String::new(),
                false => bar(sums.metered.usd, most),
            });
        }
        if doubt {
            cells.push(in_doubt);
        }
        if unpriced {
            cells.push(match sums.metered.unpriced {
                0 => String::new(),
                runs => counted(runs, "run"),
            });
        }
        if plan {
            cells.push(planned);
        }
        table.row(cells);
    }
    table.render()
}

/// An amount, or a dash where no run has one: nothing known is not nothing spent.
fn billed(money: &Money) -> String {
    if money.runs > 0 && money.runs == money.in_doubt + money.unpriced {
        "-".to_string()
    } else {
        money.usd.to_string()
    }
}

/// In tenths of a per cent.
fn share(part: Usd, whole: Usd) -> String {
    match whole.is_zero() {
        true => "-".to_string(),
        false => format!("{:.1}%", part.as_f64() / whole.as_f64() * 100.0),
    }
}

/// A bar of whole and eighths of characters.
fn bar(part: Usd, most: Usd) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if most.is_zero() {
        return String::new();
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 160"
    )]
    let eighths = (part.as_f64() / most.as_f64() * (BAR * 8) as f64).round() as usize;
    let eighths = eighths.max(usize::from(!part.is_zero())).min(BAR * 8);
    let end = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    format!("{}{end}", "█".repeat(eighths / 8))
}

/// What the columns mean where there is something to mean, on standard error.
fn remarks(total: &Sums, env: &mut Env) -> Result<(), Failure> {
    let mut lines = Vec::new();
    let Money {
        in_doubt,
        at_least,
        at_most,
        unpriced,
        ..
    } = total.metered;
    if in_doubt > 0 {
        lines.push(format!(
            "in doubt: {} open ({}), killed or not reported ({}), at most {at_most} together; not in usd",
            counted(in_doubt, "run"),
            total.open,
            in_doubt.saturating_sub(total.open),
        ));
    }
    if unpriced > 0 {
        lines.push(format!(
            "unpriced: {} with neither amount nor bound; not in usd",
            counted(unpriced, "run")
        ));
    }
    if !at_least.is_zero() {
        lines.push(format!(
            "of those, {at_least} is known to have been spent so far"
        ));
    }
    let plan = &total.plan;
    if plan.runs > 0 {
        let unknown = plan.unpriced + plan.in_doubt;
        let mut line = format!(
            "plan: {} that a subscription paid for, {} at list price; not in usd",
            counted(plan.runs, "run"),
            plan.usd
        );
        if unknown > 0 {
            line.push_str(&format!("; {unknown} of them without a list price"));
        }
        lines.push(line);
    }
    let cny = &total.cny;
    if cny.runs > 0 {
        let shown = |usd: Usd| usd.shown_in(Currency::Cny);
        let mut line = format!("CNY: {}, {}", counted(cny.runs, "run"), shown(cny.usd));
        if cny.in_doubt > 0 {
            let bound = shown(cny.at_most);
            line.push_str(&format!("; {} in doubt, at most {bound}", cny.in_doubt));
        }
        if cny.unpriced > 0 {
            line.push_str(&format!("; {} unpriced", counted(cny.unpriced, "run")));
        }
        lines.push(format!("{line}; not in usd"));
    }
    for line in lines {
        env.output.print(&format!("{line}\n"))?;
    }
    Ok(())
}

/// The JSON document `omk.cost-report/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    by: &'static str,
    tag: Option<&'a str>,
    since: Option<String>,
    until: Option<String>,
    filters: Vec<String>,
    rows: Vec<RowReport<'a>>,
    total: SumsReport,
}

#[derive(Serialize)]
struct RowReport<'a> {
    key: Option<&'a str>,
    #[serde(flatten)]
    sums: SumsReport,
}

/// Sums in JSON: amounts as decimal strings, since a sum may have more digits than a number of JSON's readers.
#[derive(Serialize)]
pub(super) struct SumsReport {
    runs: u64,
    usd: String,
    in_doubt: Doubt,
    unpriced_runs: u64,
    plan: Plan,
    /// Runs billed in CNY, which are in no amount in USD; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    cny: Option<InCny>,
    open_runs: u64,
    unknown_runs: u64,
    tokens: Tokens,
}

#[derive(Serialize)]
struct Doubt {
    runs: u64,
    at_least_usd: String,
    at_most_usd: String,
}

#[derive(Serialize)]
struct InCny {
    runs: u64,
    spent_cny: String,
    in_doubt_runs: u64,
    at_least_cny: String,
    at_most_cny: String,
    unpriced_runs: u64,
}

#[derive(Serialize)]
struct Plan {
    runs: u64,
    list_price_usd: String,
    unpriced_runs: u64,
}

#[derive(Serialize)]
struct Tokens {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
    untold_runs: u64,
}

impl SumsReport {
    pub(super) fn of(sums: &Sums) -> SumsReport {
        let Sums {
            metered, plan, cny, ..
        } = sums;
        SumsReport {
            runs: sums.runs(),
            usd: metered.usd.exact_decimal(),
            in_doubt: Doubt {
                runs: metered.in_doubt,
                at_least_usd: metered.at_least.exact_decimal(),
                at_most_usd: metered.at_most.exact_decimal(),
            },
            unpriced_runs: metered.unpriced,
            plan: Plan {
                runs: plan.runs,
                list_price_usd: plan.usd.exact_decimal(),
                unpriced_runs: plan.unpriced + plan.in_doubt,
            },
            cny: (cny.runs > 0).then(|| InCny {
                runs: cny.runs,
                spent_cny: cny.usd.exact_decimal(),
                in_doubt_runs: cny.in_doubt,
                at_least_cny: cny.at_least.exact_decimal(),
                at_most_cny: cny.at_most.exact_decimal(),
                unpriced_runs: cny.unpriced,
            }),
            open_runs: sums.open,
            unknown_runs: sums.unknown,
            tokens: Tokens {
                input: sums.input,
                cache_read: sums.cache_read,
                cache_write: sums.cache_write,
                output: sums.output,
                untold_runs: sums.untold,
            },
        }
    }
}

fn json(
    by: By,
    tag: Option<&str>,
    filter: &Filter,
    summary: &Summary,
    env: &mut Env,
) -> Result<(), Failure> {
    env.output.document(
        "omk.cost-report/1",
        Exit::Done,
        &Document {
            by: by.name(),
            tag,
            since: filter.period.from.map(format_rfc3339),
            until: filter.period.until.map(format_rfc3339),
            filters: filter.tags.iter().map(ToString::to_string).collect(),
            rows: rows(summary)
                .map(|(key, sums)| RowReport {
                    key,
                    sums: SumsReport::of(sums),
                })
                .collect(),
            total: SumsReport::of(&summary.total),
        },
        None,
    )
}

fn csv(by: By, summary: &Summary, env: &mut Env) -> Result<(), Failure> {
    env.output
        .print(&csv_line([by.name()].into_iter().chain(CSV_SUMS)))?;
    for (key, sums) in rows(summary) {
        let fields = [key.unwrap_or_default().to_string()]
            .into_iter()
            .chain(csv_sums(sums));
        env.output.print(&csv_line(fields))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::report::Row;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    fn sums(amount: &str) -> Sums {
        let mut sums = Sums::default();
        sums.metered.runs = 1;
        sums.metered.usd = usd(amount);
        sums.input = 10;
        sums.output = 2;
        sums
    }

    fn summary(rows: Vec<(Option<&str>, Sums)>, total: Sums) -> Summary {
        Summary {
            rows: rows
                .into_iter()
                .map(|(key, sums)| Row {
                    key: key.map(str::to_string),
                    sums,
                })
                .collect(),
            rest: None,
            total,
        }
    }

    #[test]
    fn amounts_are_aligned_and_what_nobody_has_takes_no_column() {
        let mut total = sums("12.5");
        total.metered.runs = 2;
        let summary = summary(
            vec![(Some("kimi-k3"), sums("12.495")), (None, sums("0.005"))],
            total,
        );
        assert_eq!(
            table(By::Model, &summary, false),
            "model    runs  input  output      usd   share
kimi-k3     1     10       2  $12.50   100.0%
-           1     10       2   $0.005    0.0%
total       2     10       2  $12.50   100.0%
"
        );
        let with_bars = table(By::Model, &summary, true);
        assert!(
            with_bars.contains("100.0%  ████████████████████\n"),
            "{with_bars}"
        );
        assert!(with_bars.contains("0.0%  ▏\n"), "{with_bars}");
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        let mut doubtful = Sums::default();
        doubtful.metered.runs = 2;
        doubtful.metered.in_doubt = 1;
        doubtful.metered.at_most = usd("0.5");
        doubtful.metered.unpriced = 1;
        let mut plan = Sums::default();
        plan.plan.runs = 3;
        plan.plan.unpriced = 3;
        let mut total = doubtful;
        total.plan = plan.plan;
        let summary = summary(vec![(Some("a"), doubtful), (Some("b"), plan)], total);
        assert_eq!(
            table(By::Tag, &summary, false),
            "tag    runs  input  output  usd  share  in doubt  unpriced    plan
a         2      0       0    -      -  <= $0.50     1 run
b         3      0       0   $0      -                      3 runs
total     5      0       0    -      -  <= $0.50     1 run  3 runs
"
        );
    }

    #[test]
    fn an_empty_ledger_says_so() {
        assert_eq!(table(By::Day, &Summary::default(), true), "no runs\n");
    }

    #[test]
    fn a_bar_is_never_longer_than_the_longest_nor_missing() {
        for (part, expected) in [
            ("0", ""),
            ("0.001", "▏"),
            ("0.5", "██████████"),
            ("2", &*"█".repeat(BAR)),
        ] {
            assert_eq!(bar(usd(part), usd("1")), expected, "{part}");
        }
        assert_eq!(bar(Usd::ZERO, Usd::ZERO), "");
    }
}
