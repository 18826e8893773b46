//! The ledger in the words of other programs: CSV and OpenMetrics.
//!
//! CSV has a line for each run, with every amount as its exact decimal and an empty field for what is not known. OpenMetrics
//! 1.0 has sums of runs that are over, since a counter may only rise and a run that is open has not cost its last cent; what
//! is in doubt stands in gauges beside them. The node exporter reads the older text format, to which all of it is legal too; it
//! takes the counters' samples, whose type that format has under another name, as untyped. Both follow their published format to the letter and nothing else: no dialect
//! of a spreadsheet, no timestamps, which the node exporter refuses.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::catalog::money::Usd;
use crate::cost::record::CostKind;
use crate::cost::record::SessionStatus;
use crate::cost::record::Transport;
use crate::cost::report::Sums;
use crate::cost::view::RecordView;
use crate::runtime::clock;

/// The columns of the CSV of runs. Columns are only ever added, at the end.
pub const CSV_COLUMNS: [&str; 24] = [
    "id",
    "started_at",
    "type",
    "status",
    "name",
    "model_requested",
    "model",
    "transport",
    "peer",
    "usd",
    "kind",
    "charged",
    "at_most_usd",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "usage_source",
    "retries",
    "exit",
    "tags",
    "cny",
    "at_most_cny",
];

/// Writes fields as a line of CSV (RFC 4180, but for the plain line end that shells expect).
pub fn csv_line<F: AsRef<str>>(fields: impl IntoIterator<Item = F>) -> String {
    let mut line = String::new();
    for (number, field) in fields.into_iter().enumerate() {
        if number > 0 {
            line.push(',');
        }
        let field = field.as_ref();
        // A spreadsheet would run it; the quote makes it text there.
        let is_formula =
            field.starts_with(['=', '+', '-', '@', '\t', '\r']) && field.parse::<f64>().is_err();
        if is_formula {
            line.push_str("\"'");
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        } else if field.contains(['"', ',', '\n', '\r']) {
            line.push('"');
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(field);
        }
    }
    line.push('\n');
    line
}

/// A run as a line of CSV, with the columns of [`CSV_COLUMNS`].
pub fn csv_run(run: &RecordView<'_>) -> String {
    let text = |text: Option<&str>| text.unwrap_or_default().to_string();
    let usd = |usd: Option<Usd>| usd.map(Usd::exact_decimal).unwrap_or_default();
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let used = |figure: fn(&crate::cost::record::Usage) -> Option<u64>| {
        number(run.usage.as_ref().and_then(figure))
    };
    let mut tags = String::new();
    for (key, value) in run.tags {
        if !tags.is_empty() {
            tags.push(',');
        }
        let _ = write!(tags, "{key}={value}");
    }
    csv_line([
        run.id.to_string(),
        clock::format_rfc3339(run.started()),
        run.session_type.name().to_string(),
        run.status.name().to_string(),
        run.name.to_string(),
        text(run.requested),
        text(run.model),
        run.transport.map_or("", Transport::name).to_string(),
        run.peer.to_string(),
        usd(run.actual_usd.filter(|_| run.currency.is_usd())),
        run.kind.label().to_string(),
        run.charged.name().to_string(),
        usd(run.at_most_usd().filter(|_| run.currency.is_usd())),
        used(|usage| usage.input),
        used(|usage| usage.cache_read),
        used(|usage| usage.cache_write),
        used(|usage| usage.output),
        used(|usage| usage.reasoning),
        run.usage
            .map(|usage| usage.source.name().to_string())
            .unwrap_or_default(),
        run.retries.to_string(),
        number(run.exit.map(u64::from)),
        tags,
        usd(run.actual_usd.filter(|_| !run.currency.is_usd())),
        usd(run.at_most_usd().filter(|_| !run.currency.is_usd())),
    ])
}

/// What a sample is labelled with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    model: String,
    transport: String,
    session_type: &'static str,
    status: &'static str,
}

impl Labels {
    fn text(&self) -> String {
        format!(
            "model=\"{}\",transport=\"{}\",type=\"{}\",status=\"{}\"",
            escaped(&self.model),
            escaped(&self.transport),
            self.session_type,
            self.status
        )
    }
}

/// A label's value, as OpenMetrics writes it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Adds runs up for a metrics system.
#[derive(Debug, Default)]
pub struct Metrics {
    groups: BTreeMap<Labels, Sums>,
}

impl Metrics {
    /// Adds one run.
    pub fn add(&mut self, run: &RecordView<'_>) {
        let labels = Labels {
            model: run.model.unwrap_or("unknown").to_string(),
            transport: run.transport.map_or("", Transport::name).to_string(),
            session_type: run.session_type.name(),
            status: run.status.name(),
        };
        self.groups.entry(labels).or_default().add(run);
    }

    /// The whole exposition, with its end mark.
    pub fn render(&self) -> String {
        let is_open = |labels: &Labels| labels.status == SessionStatus::Open.name();
        let over = || self.groups.iter().filter(|(labels, _)| !is_open(labels));
        let mut out = String::new();
        let mut family =
            |name: &str, kind: &str, unit: &str, help: &str, samples: Vec<(String, String)>| {
                let _ = writeln!(out, "# TYPE {name} {kind}");
                if !unit.is_empty() {
                    let _ = writeln!(out, "# UNIT {name} {unit}");
                }
                let _ = writeln!(out, "# HELP {name} {help}");
                let suffix = if kind == "counter" { "_total" } else { "" };
                for (labels, value) in samples {
                    let _ = writeln!(out, "{name}{suffix}{{{labels}}} {value}");
                }
            };
        let each = |value: fn(&Sums) -> Option<String>| -> Vec<(String, String)> {
            over()
                .filter_map(|(labels, sums)| Some((labels.text(), value(sums)?)))
                .collect()
        };
        family(
            "omk_runs",
            "counter",
            "",
            "Runs that are over.",
            each(|sums| Some(sums.runs().to_string())),
        );
        family(
            "omk_cost_usd",
            "counter",
            "usd",
            "What runs that are over cost, billed per token, as far as it is known.",
            each(|sums| (sums.metered.runs > 0).then(|| sums.metered.usd.exact_decimal())),
        );
        family(
            "omk_plan_list_price_usd",
            "counter",
            "usd",
            "What tokens that a subscription paid for would have cost at list price.",
            each(|sums| (sums.plan.runs > 0).then(|| sums.plan.usd.exact_decimal())),
        );
        family(
            "omk_runs_unpriced",
            "counter",
            "",
            "Runs that are over and may have cost something, with neither amount nor bound.",
            each(|sums| {
                let unpriced = sums.metered.unpriced + sums.plan.unpriced;
                (unpriced > 0).then(|| unpriced.to_string())
            }),
        );
        let tokens = over().flat_map(|(labels, sums)| {
            let kinds = [
                ("input", sums.input),
                ("cache_read", sums.cache_read),
                ("cache_write", sums.cache_write),
                ("output", sums.output),
            ];
            kinds.map(|(kind, tokens)| {
                (
                    format!("{},kind=\"{kind}\"", labels.text()),
                    tokens.to_string(),
                )
            })
        });
        family(
            "omk_tokens",
            "counter",
            "",
            "Tokens of runs that are over, as far as they were told.",
            tokens.collect(),
        );
        let open = self.groups.iter().filter(|(labels, _)| is_open(labels));
        family(
            "omk_open_runs",
            "gauge",
            "",
            "Runs under way, or killed and not recovered.",
            open.map(|(labels, sums)| (labels.text(), sums.runs().to_string()))
                .collect(),
        );
        let doubt = self
            .groups
            .iter()
            .filter(|(_, sums)| sums.metered.in_doubt > 0);
        family(
            "omk_cost_bound_usd",
            "gauge",
            "usd",
            "What runs can cost at most whose amount is not known: open, killed, or over without being told.",
            doubt
                .map(|(labels, sums)| (labels.text(), sums.metered.at_most.exact_decimal()))
                .collect(),
        );
        out.push_str("# EOF\n");
        out
    }
}

/// The columns of the CSV of a report.
pub const CSV_SUMS: [&str; 17] = [
    "runs",
    "usd",
    "in_doubt_runs",
    "at_least_usd",
    "at_most_usd",
    "unpriced_runs",
    "plan_runs",
    "plan_usd",
    "plan_unpriced_runs",
    "open_runs",
    "unknown_runs",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "cny",
    "at_most_cny",
];

/// Sums as fields of CSV, with the columns of [`CSV_SUMS`].
pub fn csv_sums(sums: &Sums) -> [String; 17] {
    let Sums {
        metered, plan, cny, ..
    } = sums;
    [
        sums.runs().to_string(),
        metered.usd.exact_decimal(),
        metered.in_doubt.to_string(),
        metered.at_least.exact_decimal(),
        metered.at_most.exact_decimal(),
        metered.unpriced.to_string(),
        plan.runs.to_string(),
        plan.usd.exact_decimal(),
        (plan.unpriced + plan.in_doubt).to_string(),
        sums.open.to_string(),
        sums.unknown.to_string(),
        sums.input.to_string(),
        sums.cache_read.to_string(),
        sums.cache_write.to_string(),
        sums.output.to_string(),
        cny.usd.exact_decimal(),
        cny.at_most.exact_decimal(),
    ]
}

/// What a person should know about how an amount is billed, in one word for tables.
pub fn mark(kind: CostKind) -> &'static str {
    match kind {
        CostKind::Metered => "",
        CostKind::ListPriceEquivalent => "plan",
        CostKind::Unknown => "?",
        CostKind::Assumed => "list price",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::record::Charge;
    use crate::cost::record::SessionCost;
    use crate::cost::record::SessionType;
    use crate::cost::record::Usage;
    use crate::cost::record::UsageSource;
    use crate::cost::view::with_view;

    fn run(status: SessionStatus) -> SessionCost {
        let mut run = SessionCost::open("a", SessionType::Prompt, "2026-11-20T10:47:59Z");
        run.status = status;
        run.kind = CostKind::Metered;
        run.charged = Charge::Yes;
        run.transport = Some(Transport::Http);
        run.peer = "api.moonshot.ai".to_string();
        run.name = "a, \"b\"".to_string();
        run.model.requested = Some("kimi-k3".to_string());
        run.actual_usd = Usd::parse("0.000000000001").ok();
        run.usage = Some(Usage {
            input: Some(5),
            cache_read: None,
            cache_write: None,
            output: Some(7),
            reasoning: None,
            source: UsageSource::Provider,
            unreported: 0,
        });
        run
    }

    #[test]
    fn a_field_that_needs_quotes_has_them() {
        assert_eq!(
            csv_line(["=1+1", "-1.5", "@x", "+\"y"]),
            "\"'=1+1\",-1.5,\"'@x\",\"'+\"\"y\"\n"
        );
        assert_eq!(
            csv_line(["a", "b,c", "d\"e", "f\ng", ""]),
            "a,\"b,c\",\"d\"\"e\",\"f\ng\",\n"
        );
    }

    #[test]
    fn a_run_is_one_line_with_as_many_fields_as_columns() {
        let mut settled = run(SessionStatus::Settled);
        settled.tags.insert("ci".to_string(), "1".to_string());
        settled.tags.insert("team".to_string(), "a".to_string());
        let line = with_view(&settled, csv_run).unwrap();
        assert_eq!(
            line,
            "a,2026-11-20T10:47:59Z,prompt,settled,\"a, \"\"b\"\"\",kimi-k3,kimi-k3,http,api.moonshot.ai,0.000000000001,\
             metered,yes,0.000000000001,5,,,7,,provider,0,,\"ci=1,team=a\",,\n"
        );
        assert_eq!(csv_sums(&Sums::default()).len(), CSV_SUMS.len());
    }

    #[test]
    fn counters_hold_what_is_over_and_gauges_what_is_not() {
        let mut metrics = Metrics::default();
        for status in [
            SessionStatus::Settled,
            SessionStatus::Settled,
            SessionStatus::Open,
        ] {
            let mut run = run(status);
            run.model.requested = Some("a\"b\\c\nd".to_string());
            if status == SessionStatus::Open {
                run.worst_case_usd = Some(Usd::from_usd(2));
            }
            with_view(&run, |view| metrics.add(view)).unwrap();
        }
        let labels = r#"model="a\"b\\c\nd",transport="http",type="prompt",status="#;
        assert_eq!(
            metrics.render(),
            format!(
                r#"# TYPE omk_runs counter
# HELP omk_runs Runs that are over.
omk_runs_total{{{labels}"settled"}} 2
# TYPE omk_cost_usd counter
# UNIT omk_cost_usd usd
# HELP omk_cost_usd What runs that are over cost, billed per token, as far as it is known.
omk_cost_usd_total{{{labels}"settled"}} 0.000000000002
# TYPE omk_plan_list_price_usd counter
# UNIT omk_plan_list_price_usd usd
# HELP omk_plan_list_price_usd What tokens that a subscription paid for would have cost at list price.
# TYPE omk_runs_unpriced counter
# HELP omk_runs_unpriced Runs that are over and may have cost something, with neither amount nor bound.
# TYPE omk_tokens counter
# HELP omk_tokens Tokens of runs that are over, as far as they were told.
omk_tokens_total{{{labels}"settled",kind="input"}} 10
omk_tokens_total{{{labels}"settled",kind="cache_read"}} 0
omk_tokens_total{{{labels}"settled",kind="cache_write"}} 0
omk_tokens_total{{{labels}"settled",kind="output"}} 14
# TYPE omk_open_runs gauge
# HELP omk_open_runs Runs under way, or killed and not recovered.
omk_open_runs{{{labels}"open"}} 1
# TYPE omk_cost_bound_usd gauge
# UNIT omk_cost_bound_usd usd
# HELP omk_cost_bound_usd What runs can cost at most whose amount is not known: open, killed, or over without being told.
omk_cost_bound_usd{{{labels}"open"}} 2
# EOF
"#
            )
        );
    }
}
