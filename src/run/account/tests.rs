//! The account against a provider that bills by its own rules.

use proptest::prelude::*;

use super::*;
use crate::catalog::Catalog;
use crate::tokens::usage::UsageSource;

fn account() -> Account {
    let catalog = Catalog::builtin();
    let model = catalog.find("kimi-k3").unwrap();
    Account::new(model.vocabulary, model.price.clone())
}

fn price() -> Price {
    let catalog = Catalog::builtin();
    catalog.find("kimi-k3").unwrap().price.clone().unwrap()
}

fn exact(input: u64, output: u64) -> Usage {
    Usage::exact(
        TokenCounts {
            input_uncached: input,
            output,
            ..TokenCounts::default()
        },
        UsageSource::Provider,
    )
}

fn cost(input: u64, output: u64) -> Usd {
    price()
        .cost(&TokenCounts {
            input_uncached: input,
            output,
            ..TokenCounts::default()
        })
        .total()
}

const BOUND: CallBound = CallBound {
    input: 1_000,
    output: 500,
};

#[test]
fn an_answer_with_its_usage_is_known_exactly() {
    let mut account = account();
    account.begin_call(Some(BOUND));
    assert_eq!(account.at_most(), Some(cost(1_000, 500)));
    assert_eq!(account.amount(), None);
    account.report(exact(900, 20));
    account.end("answered", Charge::Yes);
    for amount in [
        account.known(),
        account.at_least(),
        account.at_most(),
        account.amount(),
    ] {
        assert_eq!(amount, Some(cost(900, 20)));
    }
    assert_eq!(account.at_most_tokens(), Some(920));
    assert_eq!(account.charged(), Charge::Yes);
}

#[test]
fn every_ending_without_a_report_counts_with_its_bound() {
    for (how, charged) in [
        ("timeout", Charge::Unknown),
        ("network", Charge::Unknown),
        ("incomplete answer", Charge::Unknown),
        ("io", Charge::Unknown),
        ("answered", Charge::Yes),
    ] {
        let mut account = account();
        account.begin_call(Some(BOUND));
        account.receive("Some words of an answer that was cut");
        account.end(how, charged);
        assert_eq!(account.at_most(), Some(cost(1_000, 500)), "{how}");
        assert_eq!(account.known(), Some(Usd::ZERO), "{how}");
        assert_eq!(account.amount(), None, "{how}");
        assert!(account.at_least() > account.known(), "{how}");
        assert!(account.at_least() < account.at_most(), "{how}");
        assert_eq!(account.at_most_tokens(), Some(1_500), "{how}");
    }
}

#[test]
fn a_refusal_costs_nothing_unless_usage_was_reported() {
    let mut account = account();
    account.begin_call(Some(BOUND));
    account.end("server error", Charge::No);
    assert_eq!(account.at_most(), Some(Usd::ZERO));
    assert_eq!(account.amount(), Some(Usd::ZERO));
    assert_eq!((account.charged(), account.usage()), (Charge::No, None));
    account.begin_call(Some(BOUND));
    account.report(exact(10, 1));
    account.end("server error", Charge::No);
    assert_eq!(account.at_most(), Some(cost(10, 1)));
    assert_eq!(account.charged(), Charge::Yes);
}

#[test]
fn a_report_before_the_end_is_a_lower_figure_only() {
    let mut account = account();
    account.begin_call(Some(BOUND));
    let mut interim = exact(900, 20);
    interim.unreported = 1;
    account.report(interim);
    account.end("incomplete answer", Charge::Unknown);
    assert_eq!(account.known(), Some(cost(900, 20)));
    assert_eq!(account.at_most(), Some(cost(1_000, 500)));
    // A service that reports more than the request allowed is believed.
    interim.output = Some(600);
    account.report(interim);
    assert_eq!(
        account.at_most(),
        Some(cost(1_000, 500).max(cost(900, 600)))
    );
}

#[test]
fn attempts_add_up_and_failed_ones_stay() {
    let mut account = account();
    for _ in 0..2 {
        account.begin_call(Some(BOUND));
        account.end("timeout", Charge::Unknown);
    }
    account.begin_call(Some(BOUND));
    account.report(exact(900, 20));
    account.end("answered", Charge::Yes);
    assert_eq!(account.known(), Some(cost(900, 20)));
    assert_eq!(account.at_most(), Some(cost(900, 20) + cost(2_000, 1_000)));
    let usage = account.usage().unwrap();
    assert_eq!((usage.input, usage.unreported), (Some(900), 2));
    let ends: Vec<_> = account.attempts().into_iter().map(|a| a.end).collect();
    assert_eq!(
        ends,
        [
            Some("timeout".into()),
            Some("timeout".into()),
            Some("answered".into())
        ]
    );
}

#[test]
fn a_turn_counts_with_its_next_call_while_it_runs() {
    let mut account = account();
    account.begin_turn(Some(BOUND));
    assert_eq!(account.at_most(), Some(cost(1_000, 500)));
    account.report(exact(900, 20));
    let next = CallBound {
        input: 2_000,
        output: 500,
    };
    account.next_call(Some(next));
    assert_eq!(account.at_most(), Some(cost(900, 20) + cost(2_000, 500)));
    account.end("answered", Charge::Yes);
    assert_eq!(account.at_most(), Some(cost(900, 20)));
}

#[test]
fn silent_calls_of_a_turn_keep_what_the_others_reported() {
    let mut account = account();
    account.begin_turn(Some(BOUND));
    let mut usage = exact(9_000, 200);
    usage.unreported = 2;
    account.report(usage);
    account.end("answered", Charge::Yes);
    assert_eq!(account.known(), Some(cost(9_000, 200)));
    assert_eq!(account.amount(), account.known());
    let two = cost(1_000, 500) + cost(1_000, 500);
    assert_eq!(account.at_most(), Some(cost(9_000, 200) + two));
}

#[test]
fn a_turn_that_broke_off_may_have_had_a_call_under_way() {
    let mut account = account();
    account.begin_turn(Some(BOUND));
    account.report(exact(900, 20));
    account.end("interrupted", Charge::Unknown);
    assert_eq!(account.at_most(), Some(cost(900, 20) + cost(1_000, 500)));
}

#[test]
fn without_a_price_or_a_bound_the_amount_is_unknown_and_not_zero() {
    let mut unpriced = Account::new(account().vocabulary, None);
    unpriced.begin_call(Some(BOUND));
    unpriced.report(exact(1, 1));
    unpriced.end("answered", Charge::Yes);
    assert_eq!((unpriced.known(), unpriced.at_most()), (None, None));
    let mut refused = Account::new(account().vocabulary, None);
    refused.begin_call(None);
    refused.end("authentication", Charge::No);
    assert_eq!(refused.at_most(), Some(Usd::ZERO));
    let mut unbounded = account();
    unbounded.begin_turn(None);
    assert_eq!(unbounded.at_most(), None);
}

/// What happens to a run, and what a provider makes of it.
#[derive(Clone, Debug)]
enum Step {
    /// A request whose prompt and answer are within the bound: tokens of both, and how far it gets.
    Call { input: u64, output: u64, fate: Fate },
    /// A turn of calls; some do not report. The last one is cut if it is not finished.
    Turn {
        calls: Vec<(u64, u64, bool)>,
        finished: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    AnsweredSilently,
    Refused,
    CutBilled,
    CutUnbilled,
    InterimThenCut,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop::sample::select(vec![
        Fate::Answered,
        Fate::AnsweredSilently,
        Fate::Refused,
        Fate::CutBilled,
        Fate::CutUnbilled,
        Fate::InterimThenCut,
    ]);
    let call =
        (0..=BOUND.input, 0..=BOUND.output, fate).prop_map(|(input, output, fate)| Step::Call {
            input,
            output,
            fate,
        });
    let calls = prop::collection::vec((0..=BOUND.input, 0..=BOUND.output, any::<bool>()), 1..6);
    let turn = (calls, any::<bool>()).prop_map(|(calls, finished)| Step::Turn { calls, finished });
    prop_oneof![3 => call, 1 => turn]
}

/// Holds the invariant at this moment: an honest bill is within the account's bounds.
fn holds(account: &Account, bill: Usd) -> Result<(), TestCaseError> {
    let (least, most) = (account.at_least().unwrap(), account.at_most().unwrap());
    prop_assert!(
        bill <= most,
        "bill {bill} above at most {most}: {account:?}"
    );
    prop_assert!(least <= most, "at least {least} above at most {most}");
    prop_assert!(
        account.known().unwrap() <= bill.max(least),
        "known above the bill"
    );
    Ok(())
}

proptest! {
    #[test]
    fn whatever_happens_an_honest_bill_is_never_above_at_most(
        steps in prop::collection::vec(step(), 1..8)
    ) {
        let mut account = account();
        let mut bill = Usd::ZERO;
        let mut reserved = Usd::ZERO;
        for step in steps {
            let before = account.at_most().unwrap();
            match step {
                Step::Call { input, output, fate } => {
                    account.begin_call(Some(BOUND));
                    reserved = reserved + cost(BOUND.input, BOUND.output);
                    // Killed at this moment: the provider may bill all that was allowed.
                    holds(&account, bill + cost(BOUND.input, BOUND.output))?;
                    let billed = !matches!(fate, Fate::Refused | Fate::CutUnbilled);
                    if billed {
                        bill = bill + cost(input, output);
                    }
                    match fate {
                        Fate::Answered => account.report(exact(input, output)),
                        Fate::InterimThenCut => {
                            let mut usage = exact(input, output / 2);
                            usage.unreported = 1;
                            account.report(usage);
                        }
                        _ => {}
                    }
                    holds(&account, bill)?;
                    let (how, charged) = match fate {
                        Fate::Answered | Fate::AnsweredSilently => ("answered", Charge::Yes),
                        Fate::Refused => ("rate limited", Charge::No),
                        _ => ("incomplete answer", Charge::Unknown),
                    };
                    account.end(how, charged);
                }
                Step::Turn { calls, finished } => {
                    account.begin_turn(Some(BOUND));
                    let mut usage: Option<Usage> = None;
                    for (input, output, reports) in calls {
                        bill = bill + cost(input, output);
                        let call = match reports {
                            true => exact(input, output),
                            false => Usage::unknown(UsageSource::SessionLog),
                        };
                        let sum = usage.map_or(call, |sum| sum.plus(&call));
                        usage = Some(sum);
                        account.report(sum);
                        account.next_call(Some(BOUND));
                        holds(&account, bill + cost(BOUND.input, BOUND.output))?;
                    }
                    if !finished {
                        // One more call was under way, and the provider bills it.
                        bill = bill + cost(BOUND.input, BOUND.output);
                        let call = Usage::unknown(UsageSource::SessionLog);
                        account.report(usage.map_or(call, |sum| sum.plus(&call)));
                    }
                    match finished {
                        true => account.end("answered", Charge::Yes),
                        false => account.end("interrupted", Charge::Unknown),
                    }
                }
            }
            holds(&account, bill)?;
            // Nothing that is over becomes smaller by what comes after it.
            prop_assert!(account.at_most().unwrap() >= before);
        }
        prop_assert_eq!(account.attempts().iter().filter(|a| a.end.is_none()).count(), 0);
    }

    #[test]
    fn what_arrived_is_never_counted_as_more_than_it_is(text in ".{0,400}", cuts in prop::collection::vec(0..400_usize, 0..5)) {
        let mut account = account();
        account.begin_call(Some(CallBound { input: 0, output: u64::from(u32::MAX) }));
        let whole = tokens::count(&text, account.vocabulary);
        let mut rest = text.as_str();
        for cut in cuts {
            let at = (0..=cut.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
            let (piece, after) = rest.split_at(at);
            account.receive(piece);
            rest = after;
        }
        account.receive(rest);
        let counted = account.attempts()[0].received_tokens;
        prop_assert!(counted <= whole && counted + 1 >= whole, "{} of {}", counted, whole);
    }
}
