//! How fast much text of each kind is counted in one thread, against others at their best: built and warm.
//!
//! Nobody sees a text twice. Who remembers pieces would otherwise be measured on remembering the text.

use crate::kinds::KINDS;
use crate::process;
use crate::report::{Table, Times};
use crate::rivals::Rival;
use crate::{MB, Options, VOCABULARIES, corpus};

use std::time::Instant;

use omk::tokens::Vocabulary;

pub(crate) fn run(options: &Options) {
    let size = options.pick(MB / 2, 8 * MB);
    let rounds = options.pick(1, 5);
    let mut table = Table::new(
        "Throughput",
        &[
            "text",
            "vocabulary",
            "omk",
            "ids ÷ count",
            "tiktoken ÷ omk",
            "tiktoken-rs ÷ omk",
            "splintr ÷ omk",
            "gigatoken ÷ omk",
        ],
    );
    for vocabulary in VOCABULARIES {
        let mut others = [Rival::splintr(vocabulary), Rival::gigatoken(vocabulary)];
        for (name, make) in KINDS {
            let mut texts = Vec::new();
            for number in 0..=rounds {
                texts.push(make(number, size));
            }
            row(&mut table, name, vocabulary, &texts, &mut others);
        }
        for path in &options.texts {
            let text = std::fs::read_to_string(path).unwrap();
            let name = path.file_name().unwrap_or_default().display().to_string();
            let half = corpus::cut(&text, text.len() / 2);
            let texts = [half.to_string(), text[half.len()..].to_string()];
            row(&mut table, &name, vocabulary, &texts, &mut others);
        }
        // tiktoken would take minutes for as much of it as of the others; both are linear.
        let texts: Vec<String> = (0..=rounds)
            .map(|number| corpus::unicode_of(number as u64, size / 32))
            .collect();
        row(
            &mut table,
            "random Unicode, 1/32 of it",
            vocabulary,
            &texts,
            &mut others,
        );
    }
    table.print(&format!(
        "Texts of {size} KB, one thread, counted in turn: the ratio of the medians of {rounds} rounds, in brackets the least and \
the greatest of a round. Each round has a text of its own, and all were warmed on another. splintr and gigatoken run in \
processes of their own and encode; the clock runs in them while they do. `wrong` counts otherwise than the reference, \
`none` is not there on this machine or lacks the vocabulary. Above 1 omk is the faster one.",
        size = size / 1024
    ));
}

/// Measures all on these texts, the first of which is for warming.
fn row(
    table: &mut Table,
    name: &str,
    vocabulary: Vocabulary,
    texts: &[String],
    others: &mut [Option<Rival>; 2],
) {
    let tiktoken = tiktoken::get_encoding(process::name_in_tiktoken(vocabulary)).unwrap();
    let tiktoken_rs = match vocabulary {
        Vocabulary::O200k => Some(tiktoken_rs::o200k_base_singleton()),
        Vocabulary::Cl100k => Some(tiktoken_rs::cl100k_base_singleton()),
        _ => None,
    };
    let mut ours = Vec::new();
    let mut ids = Vec::new();
    let mut theirs = Vec::new();
    let mut openai = Vec::new();
    let mut elsewhere: [Vec<f64>; 2] = Default::default();
    let mut is_wrong = [false; 2];
    for (round, text) in texts.iter().enumerate() {
        let timed = |work: &dyn Fn() -> u64, times: &mut Vec<f64>| {
            let start = Instant::now();
            let count = work();
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
            count
        };
        let count = timed(&|| omk::tokens::count(text, vocabulary), &mut ours);
        assert_eq!(
            timed(
                &|| omk::tokens::encode(text, vocabulary, &[]).len() as u64,
                &mut ids
            ),
            count
        );
        assert_eq!(
            timed(&|| tiktoken.count(text) as u64, &mut theirs),
            count,
            "{name}, {vocabulary:?}"
        );
        // It is a hundred times as long about these, and gives up on the longest pieces.
        if let Some(reference) = tiktoken_rs.filter(|_| name != "random letters") {
            let reference = timed(
                &|| reference.encode_ordinary(text).len() as u64,
                &mut openai,
            );
            assert_eq!(reference, count, "{name}, {vocabulary:?}");
        }
        let file = process::input_file(text);
        for ((rival, times), is_wrong) in others.iter_mut().zip(&mut elsewhere).zip(&mut is_wrong) {
            let Some((rival_count, took)) = rival.as_mut().and_then(|rival| rival.ask(&file))
            else {
                continue;
            };
            *is_wrong |= rival_count != count;
            if round > 0 {
                times.push(took.as_secs_f64());
            }
        }
    }
    let ours = Times::of(ours);
    let over = |times: Vec<f64>| match times.len() {
        0 => "none".to_string(),
        _ => Times::of(times).over(&ours).to_string(),
    };
    let [splintr, gigatoken] = elsewhere;
    let judged = |times: Vec<f64>, is_wrong: bool| {
        if is_wrong {
            "wrong".to_string()
        } else {
            over(times)
        }
    };
    table.row(&[
        &name,
        &vocabulary.name(),
        &format!("{:.0} MB/s", texts[1].len() as f64 / 1e6 / ours.median()),
        &over(ids),
        &over(theirs),
        &over(openai),
        &judged(splintr, is_wrong[0]),
        &judged(gigatoken, is_wrong[1]),
    ]);
}
