//! The corpus of answers in `tests/fixtures/plans`, and what holds for any text.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest::test_runner::TestRunner;

use super::*;
use crate::plan::document::PlanDocument;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plans")
}

/// Name and text of each answer, by name. Bytes that are not UTF-8 arrive as a client hands them on.
fn corpus() -> Vec<(String, String)> {
    let files = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut answers: Vec<(String, String)> = files
        .filter(|path| path.file_name().unwrap() != "expected.txt")
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            (name, String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect();
    answers.sort();
    answers
}

/// What comes of an answer, by the parser that its name begins with.
fn report(name: &str, text: &str) -> String {
    let outcome = match name.split('_').next().unwrap() {
        "plan" => read_plan(text).map(|plan| PlanDocument::new(plan).to_json()),
        "classification" => read_classification(text).map(|value| format!("{value:?}")),
        "criteria" => read_criteria(text).map(|value| format!("{value:?}")),
        "complexity" => read_complexity(text).map(|value| format!("{value:?}")),
        other => panic!("no parser for {other}"),
    };
    let mut report = format!("== {name}\n");
    match outcome {
        Ok(value) => report.push_str(&format!("   {value}\n")),
        Err(findings) => {
            for finding in findings.list() {
                writeln!(report, "   {} {finding}", finding.at).unwrap();
            }
            if findings.omitted() > 0 {
                writeln!(report, "   and {} more", findings.omitted()).unwrap();
            }
        }
    }
    report
}

#[test]
fn every_answer_of_the_corpus_is_what_is_expected_of_it() {
    let corpus = corpus();
    assert!(corpus.len() >= 60);
    let reports: String = corpus
        .iter()
        .map(|(name, text)| report(name, text))
        .collect();
    let path = directory().join("expected.txt");
    if std::env::var_os("OMK_BLESS").is_some() {
        fs::write(&path, &reports).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap();
    for (ours, theirs) in reports.lines().zip(expected.lines()) {
        assert_eq!(ours, theirs, "OMK_BLESS=1 writes the file anew");
    }
    assert_eq!(reports.lines().count(), expected.lines().count());
    for (name, text) in &corpus {
        let good = name.contains("_good");
        assert_eq!(
            good,
            report(name, text)
                .lines()
                .all(|line| !line.contains(" OMK-P")),
            "{name}"
        );
    }
}

#[test]
fn a_large_answer_takes_time_in_proportion() {
    // Each would take minutes if anything were quadratic.
    for piece in ["{\"a\":", "{\"", "[{", "{\"a\":1,", "\"{\\\"", "{}", "```{"] {
        let _ = read_plan(&piece.repeat(300_000));
        let _ = read_criteria(&piece.repeat(300_000));
    }
    let slice = "{\"description\":\"x\",\"write_set\":[\"a/b/c\"]},".repeat(20_000);
    let pairs: Vec<String> = (1..20_000).map(|n| format!("[{},{n}]", n - 1)).collect();
    let plan = format!(
        "{{\"kind\":\"repair\",\"complexity_score\":1,\"slices\":[{}],\"dependencies\":[{}]}}",
        slice.trim_end_matches(','),
        pairs.join(",")
    );
    assert_eq!(read_plan(&plan).unwrap().waves().len(), 20_000);
}

fn check_any(text: &str) -> Result<(), TestCaseError> {
    for name in ["plan", "classification", "criteria", "complexity"] {
        let first = report(name, text);
        prop_assert_eq!(&first, &report(name, text));
        prop_assert!(
            !first.contains(|c: char| c.is_control() && c != '\n'),
            "{}",
            first
        );
    }
    if let Ok(plan) = read_plan(text) {
        let printed = PlanDocument::new(plan.clone()).to_json();
        prop_assert_eq!(read_plan(&printed), Ok(plan.clone()));
        for (before, after) in &plan.parts().dependencies {
            prop_assert!(plan.wave_of(*before) < plan.wave_of(*after));
        }
    }
    Ok(())
}

/// An answer of the corpus with a piece taken out, doubled, or put in from another.
fn mutated() -> impl Strategy<Value = String> {
    let answers: Vec<String> = corpus().into_iter().map(|(_, text)| text).collect();
    let other = answers.clone();
    let one = prop::sample::select(answers);
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), 0_usize..30, 0_u8..4), 1..4);
    (
        one,
        prop::sample::select(other),
        cuts,
        "[\\[\\]{}\":,0-9a-z\\\\.eE -]{0,6}",
    )
        .prop_map(|(one, other, cuts, noise)| {
            let mut bytes = one.into_bytes();
            for (index, length, how) in cuts {
                let start = index.index(bytes.len() + 1);
                let end = (start + length).min(bytes.len());
                let piece: Vec<u8> = match how {
                    0 => Vec::new(),
                    1 => bytes[start..end].repeat(2),
                    2 => noise.clone().into_bytes(),
                    _ => {
                        let from = index.index(other.len() + 1);
                        other.as_bytes()[from..(from + length).min(other.len())].to_vec()
                    }
                };
                bytes.splice(start..end, piece);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
}

/// The fuzz target of the parsers: no text makes them panic or waver, and what they read they read again from its print.
/// `OMK_FUZZ_PLANS` raises the number of cases.
#[test]
fn fuzz_parsers() {
    let asked = std::env::var("OMK_FUZZ_PLANS").ok();
    let cases = asked.and_then(|asked| asked.parse().ok()).unwrap_or(400);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let bytes = prop::collection::vec(any::<u8>(), 0..200)
        .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let looks_like_json = "[\\[\\]{}\":, \n`0-9a-z\\\\.eE-]{0,120}";
    let texts = prop_oneof![
        1 => bytes,
        1 => looks_like_json,
        4 => mutated(),
    ];
    runner.run(&texts, |text| check_any(&text)).unwrap();
}

/// Any plan that can be.
fn plans() -> impl Strategy<Value = Plan> {
    let words = || {
        "[a-zé漢\\PC]{1,12}".prop_filter("says something", |text: &String| !text.trim().is_empty())
    };
    let hours = prop_oneof![0.0..=1.0, 0.0..=MAX_HOURS];
    let slice = (
        words(),
        prop::sample::select(Difficulty::ALL),
        prop::option::of(0..=MAX_TOKENS),
    );
    let slices = prop::collection::vec(slice, 1..6);
    let pairs = prop::collection::vec((0_usize..6, 0_usize..6), 0..6);
    let of_kind = (
        prop::sample::select(GoalKind::ALL),
        prop::option::of(0.0..=1.0),
        ".{0,9}",
        any::<Option<bool>>(),
    );
    let rest = (
        ".{0,20}",
        prop::option::of(words()),
        prop::collection::vec(words(), 0..3),
        prop::option::of(0..=MAX_TOKENS),
    );
    let complexity = (1_u8..=10, ".{0,9}", prop::option::of(hours));
    (of_kind, complexity, slices, pairs, rest).prop_map(
        |(of_kind, complexity, slices, pairs, rest)| {
            let count = slices.len();
            let slices = slices
                .into_iter()
                .enumerate()
                .map(|(i, (words, difficulty, tokens))| {
                    // Every slice writes a file of its own, and one that the wave before it may have written.
                    let slice = Slice::new(
                        format!("{words}{i}"),
                        words,
                        vec![format!("f{i}.rs")],
                        difficulty,
                    )
                    .unwrap();
                    slice.with_estimated_tokens(tokens).unwrap()
                });
            let (kind, confidence, reasoning, is_testable) = of_kind;
            let (score, complexity_reasoning, hours) = complexity;
            let (goal_text, suggested_refinement, acceptance_criteria, estimated_tokens) = rest;
            Plan::new(PlanParts {
                goal_text,
                kind,
                confidence,
                reasoning,
                is_testable,
                suggested_refinement,
                complexity: Complexity::new(score, complexity_reasoning, hours).unwrap(),
                slices: slices.collect(),
                dependencies: pairs
                    .into_iter()
                    .filter(|(a, b)| a < b && *b < count)
                    .collect(),
                acceptance_criteria,
                estimated_tokens,
                templates: vec!["plan/1".to_string()],
            })
            .unwrap()
        },
    )
}

proptest! {
    #[test]
    fn parse_after_print_is_the_identity(plan in plans(), prose in "[a-z .!\n]{0,20}") {
        let document = PlanDocument::new(plan);
        let printed = document.to_json();
        prop_assert_eq!(PlanDocument::parse(&printed), Ok(document.clone()));
        let around = format!("{prose}```json\n{printed}\n```{prose}");
        prop_assert_eq!(PlanDocument::parse(&around), Ok(document));
    }
}
