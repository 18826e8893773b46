//! The arithmetic of one run, line by line: tokens of a kind, times their rate, make an amount.
//!
//! Everything it says is in the record: the rates that were in force then are kept with it, so the sum can be checked years
//! later without a price list. What is not known is said with the reason. Refuses to correct: where the lines do not add up
//! to what the ledger holds, it shows both and says why that can be.

use crate::catalog::Rates;
use crate::catalog::money::Rate;
use crate::catalog::money::Usd;
use crate::cost::record::Charge;
use crate::cost::record::CostKind;
use crate::cost::record::Reservation;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::record::UsageSource;

/// Tokens of one kind and their price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `input`, `cache read`, `cache write` or `output`.
    pub what: &'static str,
    /// How many; `None` where it was not reported.
    pub tokens: Option<u64>,
    /// The rate; `None` without a price.
    pub rate: Option<Rate>,
    /// Their product.
    pub usd: Option<Usd>,
}

/// A run explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What was billed; empty when neither usage nor price is known.
    pub lines: Vec<Line>,
    /// The sum of the lines; `None` when one of them is not known.
    pub sum: Option<Usd>,
    /// The size of prompt above which these rates hold; `None` for the ordinary ones.
    pub tier_above: Option<u64>,
    /// Where the figures come from, what is not known, and why.
    pub notes: Vec<String>,
}

/// Explains what a run cost.
pub fn explain(run: &SessionCost) -> Explanation {
    let mut notes = Vec::new();
    let counts = run.usage.and_then(|usage| usage.counts());
    let price = run.price.as_ref().map(|used| &used.price);
    // Without the prompt's size the ordinary rates are shown, and the sum is not made.
    let tier = price
        .zip(counts)
        .and_then(|(price, counts)| price.tier_for(counts.prompt()));
    let rates = price.map(|price| tier.map_or(price.rates(), |tier| &tier.rates));
    let lines = lines(run, rates);
    let bill = price.zip(counts).map(|(price, counts)| price.cost(&counts));
    let sum = bill.map(|bill| bill.total());
    about_usage(run, &mut notes);
    about_price(run, &mut notes);
    if let (Some(bill), Some(used)) = (bill, &run.price) {
        for (unknown, what) in [
            (bill.cache_read_rate_unknown, "tokens out of the cache"),
            (bill.cache_write_rate_unknown, "writing to the cache"),
        ] {
            if unknown {
                notes.push(format!(
                    "no rate of {} for {what} is known: they are in at the full input rate",
                    used.model
                ));
            }
        }
    }
    about_amount(run, sum, &mut notes);
    Explanation {
        lines,
        sum,
        tier_above: tier.map(|tier| tier.above),
        notes,
    }
}

fn lines(run: &SessionCost, rates: Option<&Rates>) -> Vec<Line> {
    let Some(usage) = run.usage else {
        return Vec::new();
    };
    let line = |what, tokens: Option<u64>, rate: Option<Rate>| Line {
        what,
        tokens,
        rate,
        usd: tokens.zip(rate).map(|(tokens, rate)| rate.times(tokens)),
    };
    let mut lines = vec![line("input", usage.input, rates.map(|rates| rates.input))];
    // A cache that was never heard of has no line; one that gave nothing has one.
    if usage.cache_read.is_some() {
        let rate = rates.map(|rates| rates.cached_input.unwrap_or(rates.input));
        lines.push(line("cache read", usage.cache_read, rate));
    }
    if usage.cache_write.is_some_and(|tokens| tokens > 0) {
        let rate = rates.map(|rates| rates.cache_write.unwrap_or(rates.input));
        lines.push(line("cache write", usage.cache_write, rate));
    }
    lines.push(line(
        "output",
        usage.output,
        rates.map(|rates| rates.output),
    ));
    lines
}

fn about_usage(run: &SessionCost, notes: &mut Vec<String>) {
    let Some(usage) = run.usage else {
        notes.push(match run.charged {
            Charge::No => "nothing was used: the run ended before the model was asked".to_string(),
            _ => "what it used is not known: neither the peer nor a session log reported it"
                .to_string(),
        });
        return;
    };
    notes.push(
        match usage.source {
            UsageSource::Provider => "usage: as the service or agent reported it",
            UsageSource::SessionLog => "usage: from the agent's session log",
            UsageSource::Estimate => "usage: counted by omk, so it may differ from the bill",
        }
        .to_string(),
    );
    let missing: Vec<&str> = [(usage.input, "input"), (usage.output, "output")]
        .into_iter()
        .filter_map(|(tokens, what)| tokens.is_none().then_some(what))
        .collect();
    if !missing.is_empty() {
        notes.push(format!(
            "not reported: tokens of the {}",
            missing.join(" and the ")
        ));
    }
    if let Some(reasoning) = usage.reasoning.filter(|tokens| *tokens > 0) {
        notes.push(format!(
            "of the output {reasoning} tokens were reasoning, which is billed as output"
        ));
    }
}

fn about_price(run: &SessionCost, notes: &mut Vec<String>) {
    if let Some(used) = &run.price {
        let mut note = format!("rates: {}, {}", used.model, used.origin);
        if !used.as_of.is_empty() {
            note.push_str(&format!(", as of {}", used.as_of));
        }
        if !used.source.is_empty() {
            note.push_str(&format!(", source: {}", used.source));
        }
        notes.push(note);
    } else {
        notes.push(match run.model.best() {
            Some(name) => format!("no price of {name} was known"),
            None => "the model that answered is unknown, so there is no price".to_string(),
        });
    }
    match run.kind {
        CostKind::ListPriceEquivalent => notes.push(
            "a subscription paid for it: an amount is what the tokens would cost at list price"
                .to_string(),
        ),
        CostKind::Assumed => notes.push(format!(
            "omk does not know who bills at {}: the amount is what the tokens cost at the maker's list price; \
             `omk cost settle {} --usd X` records what was billed",
            run.peer, run.id
        )),
        CostKind::Metered | CostKind::Unknown => {}
    }
}

fn about_amount(run: &SessionCost, sum: Option<Usd>, notes: &mut Vec<String>) {
    if run.charged == Charge::No {
        notes.push(
            "it cost nothing: nothing was sent, or it was refused before the model worked"
                .to_string(),
        );
    }
    if let (Some(sum), Some(actual)) = (sum, run.actual_usd)
        && sum != actual
    {
        notes.push(format!(
            "the lines come to {}, and the ledger holds {}: it was added up request by request, and requests of other price tiers, or to other models, are no single bill",
            sum.exact_decimal(),
            actual.exact_decimal()
        ));
    }
    let bound = match run.at_most_usd() {
        Some(usd) => format!("at most {}", usd.exact_decimal()),
        None => "no bound is known".to_string(),
    };
    match run.status {
        SessionStatus::Open if run.reservation != Reservation::Granted => {
            notes.push("it is open and waits for a budget; nothing was sent".to_string());
        }
        SessionStatus::Open => notes.push(format!("it is open: {bound}")),
        SessionStatus::Unknown => notes.push(format!(
            "it was killed, or its peer did not report all of it: {bound}"
        )),
        SessionStatus::Settled | SessionStatus::Failed | SessionStatus::Interrupted => {
            if run.actual_usd.is_none() && run.charged != Charge::No {
                notes.push(format!("its amount is not known: {bound}"));
            }
        }
    }
    if run.retries > 0 {
        notes.push(format!(
            "{} attempts failed before the last one",
            run.retries
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Price;
    use crate::catalog::Tier;
    use crate::cost::record::PriceUsed;
    use crate::cost::record::SessionType;
    use crate::cost::record::Usage;

    fn rates(input: &str, cached: Option<&str>, output: &str) -> Rates {
        let rate = |text: &str| Rate::parse(text).unwrap();
        Rates {
            input: rate(input),
            cached_input: cached.map(rate),
            cache_write: None,
            cache_write_1h: None,
            output: rate(output),
        }
    }

    fn run(price: Option<Price>, usage: Option<[Option<u64>; 4]>) -> SessionCost {
        let mut run = SessionCost::open("1", SessionType::Prompt, "2026-11-20T10:47:59Z");
        run.status = SessionStatus::Settled;
        run.charged = Charge::Yes;
        run.kind = CostKind::Metered;
        run.model.requested = Some("m".to_string());
        run.price = price.map(|price| PriceUsed {
            model: "m".to_string(),
            price,
            as_of: "2026-11-01".to_string(),
            source: "the list".to_string(),
            origin: "builtin".to_string(),
        });
        run.usage = usage.map(|[input, cache_read, cache_write, output]| Usage {
            input,
            cache_read,
            cache_write,
            output,
            reasoning: None,
            source: UsageSource::Provider,
            unreported: 0,
        });
        run.actual_usd = run.price.as_ref().and_then(|used| {
            let counts = run.usage?.counts()?;
            Some(used.price.cost(&counts).total())
        });
        run
    }

    fn shown(explanation: &Explanation) -> Vec<String> {
        let lines = explanation.lines.iter();
        lines
            .map(|line| {
                format!(
                    "{} {:?} x {:?} = {:?}",
                    line.what,
                    line.tokens,
                    line.rate.map(Rate::exact_decimal),
                    line.usd.map(Usd::exact_decimal)
                )
            })
            .collect()
    }

    #[test]
    fn the_lines_add_up_to_the_amount() {
        let price = Price::new(rates("0.6", Some("0.15"), "2.5"), Vec::new());
        let run = run(Some(price), Some([Some(600), Some(400), Some(0), Some(30)]));
        let explanation = explain(&run);
        assert_eq!(
            shown(&explanation),
            [
                r#"input Some(600) x Some("0.6") = Some("0.00036")"#,
                r#"cache read Some(400) x Some("0.15") = Some("0.00006")"#,
                r#"output Some(30) x Some("2.5") = Some("0.000075")"#,
            ]
        );
        assert_eq!(explanation.sum, run.actual_usd);
        assert_eq!(
            explanation.notes,
            [
                "usage: as the service or agent reported it",
                "rates: m, builtin, as of 2026-11-01, source: the list",
            ]
        );
    }

    #[test]
    fn the_tier_of_the_prompts_size_is_shown() {
        let tier = Tier {
            above: 1000,
            rates: rates("2", None, "4"),
        };
        let price = Price::new(rates("1", None, "2"), vec![tier]);
        let explanation = explain(&run(
            Some(price),
            Some([Some(900), Some(200), None, Some(1)]),
        ));
        assert_eq!(explanation.tier_above, Some(1000));
        assert_eq!(
            shown(&explanation)[1],
            r#"cache read Some(200) x Some("2") = Some("0.0004")"#
        );
        let note =
            "no rate of m for tokens out of the cache is known: they are in at the full input rate";
        assert!(explanation.notes.contains(&note.to_string()));
    }

    #[test]
    fn what_is_unknown_is_said_with_the_reason() {
        let mut unpriced = run(None, Some([Some(1), None, None, None]));
        unpriced.worst_case_usd = Some(Usd::from_usd(2));
        unpriced.status = SessionStatus::Unknown;
        let explanation = explain(&unpriced);
        assert_eq!(explanation.sum, None);
        assert_eq!(
            explanation.notes[1..],
            [
                "not reported: tokens of the output",
                "no price of m was known",
                "it was killed, or its peer did not report all of it: at most 2",
            ]
        );
        let mut silent = run(None, None);
        silent.charged = Charge::No;
        assert_eq!(
            explain(&silent).notes[0],
            "nothing was used: the run ended before the model was asked"
        );
    }

    #[test]
    fn an_amount_of_several_requests_is_shown_beside_the_lines() {
        let price = Price::new(rates("1", None, "2"), Vec::new());
        let mut run = run(Some(price), Some([Some(1_000_000), None, None, Some(0)]));
        run.actual_usd = Some(Usd::from_usd(3));
        let notes = explain(&run).notes.join("\n");
        assert!(
            notes.contains("the lines come to 1, and the ledger holds 3"),
            "{notes}"
        );
    }
}
