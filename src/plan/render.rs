//! A plan as text, Markdown, a graph or rows: pure functions of the plan.
//!
//! The words in a plan come from a model, and from whoever wrote the goal. So each form escapes what has a meaning in it,
//! and a text of several lines becomes one where a line is all there is. JSON is not made here: it is the document itself.

use std::fmt::Write as _;

use crate::plan::document::PlanDocument;
use crate::plan::model::Plan;
use crate::plan::model::Slice;
use crate::plan::model::WorkEstimate;
use crate::runtime::table::Align;
use crate::runtime::table::Table;
use crate::runtime::text::escape;

/// A text on one line, without what a terminal obeys.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    escape(&words.join(" ")).into_owned()
}

/// Ids of slices, in the order of the indices.
fn ids<'p>(plan: &'p Plan, slices: impl IntoIterator<Item = &'p usize>) -> Vec<String> {
    let slices = slices.into_iter().filter_map(|at| plan.slice(*at));
    slices.map(|slice| line(slice.id())).collect()
}

/// The ids of the slices that one waits for.
fn awaited(plan: &Plan, slice: usize) -> Vec<String> {
    let before = plan
        .parts()
        .dependencies
        .iter()
        .filter(|(_, after)| *after == slice);
    let mut before: Vec<usize> = before.map(|(before, _)| *before).collect();
    before.sort_unstable();
    before.dedup();
    ids(plan, &before)
}

/// The slices of each wave with their indices.
fn waves(plan: &Plan) -> impl Iterator<Item = (usize, Vec<(usize, &Slice)>)> {
    plan.waves().iter().enumerate().map(|(number, wave)| {
        let slices = wave
            .iter()
            .filter_map(|at| plan.slice(*at).map(|slice| (*at, slice)));
        (number + 1, slices.collect())
    })
}

/// `150000`, or `~120000` where it is the difficulty's and not the plan's own.
fn tokens(slice: &Slice) -> String {
    let mark = if slice.estimated_tokens().is_some() {
        ""
    } else {
        "~"
    };
    format!("{mark}{}", slice.expected_tokens())
}

/// `greenfield, 92% sure`.
fn kind(plan: &Plan) -> String {
    let parts = plan.parts();
    match parts.confidence {
        Some(confidence) => format!("{}, {:.0}% sure", parts.kind, confidence * 100.0),
        None => parts.kind.to_string(),
    }
}

/// `5 of 10, 12.5 hours`.
fn complexity(plan: &Plan) -> String {
    let complexity = &plan.parts().complexity;
    match complexity.estimated_hours() {
        Some(hours) => format!("{} of 10, {hours} hours", complexity.score()),
        None => format!("{} of 10", complexity.score()),
    }
}

/// `~187500 + ~62500 tokens, ~$1.50 on kimi-k3`.
fn price(estimate: &WorkEstimate) -> String {
    let usd = match estimate.usd {
        Some(usd) => format!("~{usd}"),
        None => "price unknown".to_string(),
    };
    format!(
        "~{} tokens of prompt and ~{} of answer, {usd} on {}",
        estimate.input_tokens,
        estimate.output_tokens,
        line(&estimate.model)
    )
}

/// For people.
pub(crate) fn text(document: &PlanDocument) -> String {
    let plan = &document.plan;
    let parts = plan.parts();
    let mut out = String::new();
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name:<11} {value}");
        }
    };
    fact("goal", &line(&parts.goal_text));
    fact("kind", &kind(plan));
    fact("", &line(&parts.reasoning));
    fact("complexity", &complexity(plan));
    fact("", &line(parts.complexity.reasoning()));
    if let Some(testable) = parts.is_testable {
        fact("testable", if testable { "yes" } else { "no" });
    }
    if let Some(better) = &parts.suggested_refinement {
        fact("vague", &format!("better say: {}", line(better)));
    }
    for (number, slices) in waves(plan) {
        let _ = writeln!(out, "\nwave {number}");
        let mut table = Table::new(vec![
            ("  slice", Align::Left),
            ("difficulty", Align::Left),
            ("tokens", Align::Right),
            ("after", Align::Left),
        ]);
        for (at, slice) in slices {
            table.row(vec![
                format!("  {}", line(slice.id())),
                slice.estimated_difficulty().to_string(),
                tokens(slice),
                awaited(plan, at).join(", "),
            ]);
            table.remark(&format!("  {}", line(slice.description())));
            let written: Vec<String> = slice.write_set().iter().map(|path| line(path)).collect();
            if !written.is_empty() {
                table.remark(&format!("  writes {}", written.join(", ")));
            }
        }
        out.push_str(&table.render());
    }
    let _ = writeln!(
        out,
        "\ncritical path: {}",
        ids(plan, plan.critical_path()).join(" -> ")
    );
    if !parts.acceptance_criteria.is_empty() {
        out.push_str("\ndone when\n");
        for criterion in &parts.acceptance_criteria {
            let _ = writeln!(out, "  - {}", line(criterion));
        }
    }
    if let Some(estimate) = &document.estimate {
        let _ = writeln!(out, "\nestimate: {}", price(estimate));
        let _ = writeln!(out, "  from {}", line(&estimate.basis));
    }
    out
}

/// A line of Markdown: no HTML, no line end.
fn prose(text: &str) -> String {
    line(text).replace('&', "&amp;").replace('<', "&lt;")
}

/// Text between more backticks than it has in a row.
fn code(text: &str) -> String {
    let text = line(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let ticks = "`".repeat(longest + 1);
    let space = if longest > 0 { " " } else { "" };
    format!("{ticks}{space}{text}{space}{ticks}")
}

/// A document for people: a list to tick off, wave by wave.
pub(crate) fn markdown(document: &PlanDocument) -> String {
    let plan = &document.plan;
    let parts = plan.parts();
    let title = match prose(&parts.goal_text) {
        goal if goal.is_empty() => "Plan".to_string(),
        goal => format!("Plan: {goal}"),
    };
    let mut out = format!("# {title}\n\n- Kind: {}", kind(plan));
    let after = |reason: &str| match prose(reason) {
        reason if reason.is_empty() => String::new(),
        reason => format!(". {reason}"),
    };
    let _ = writeln!(out, "{}", after(&parts.reasoning));
    let _ = writeln!(
        out,
        "- Complexity: {}{}",
        complexity(plan),
        after(parts.complexity.reasoning())
    );
    if let Some(better) = &parts.suggested_refinement {
        let _ = writeln!(out, "- The goal is vague; better: {}", prose(better));
    }
    let path: Vec<String> = ids(plan, plan.critical_path())
        .iter()
        .map(|id| code(id))
        .collect();
    let _ = writeln!(out, "- Critical path: {}", path.join(" → "));
    if let Some(estimate) = &document.estimate {
        let _ = writeln!(
            out,
            "- Estimate: {} ({})",
            price(estimate),
            prose(&estimate.basis)
        );
    }
    for (number, slices) in waves(plan) {
        let _ = writeln!(out, "\n## Wave {number}\n");
        for (at, slice) in slices {
            let _ = writeln!(
                out,
                "- [ ] {} ({}, {} tokens): {}",
                code(slice.id()),
                slice.estimated_difficulty(),
                tokens(slice),
                prose(slice.description())
            );
            let list = |what: &str, names: Vec<String>| match names.is_empty() {
                true => String::new(),
                false => format!(
                    "  - {what} {}\n",
                    names
                        .iter()
                        .map(|name| code(name))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            };
            out.push_str(&list("after", awaited(plan, at)));
            out.push_str(&list("writes", slice.write_set().to_vec()));
        }
    }
    if !parts.acceptance_criteria.is_empty() {
        out.push_str("\n## Acceptance criteria\n\n");
        for criterion in &parts.acceptance_criteria {
            let _ = writeln!(out, "- [ ] {}", prose(criterion));
        }
    }
    out
}

/// A flowchart of Mermaid, a box for each wave, the critical path with thick borders.
pub(crate) fn mermaid(plan: &Plan) -> String {
    // Mermaid reads `#...;` as a character by its number or name.
    let label = |text: &str| {
        let mut label = String::new();
        for c in line(text).chars() {
            match c {
                '"' | '#' | '<' | '>' | '&' | '`' | ';' | '%' | '{' | '}' => {
                    let _ = write!(label, "#{};", u32::from(c));
                }
                c => label.push(c),
            }
        }
        label
    };
    let mut out = String::from("flowchart LR\n");
    for (number, slices) in waves(plan) {
        let _ = writeln!(out, "  subgraph wave{number} [\"wave {number}\"]");
        for (at, slice) in slices {
            let _ = writeln!(
                out,
                "    s{at}[\"{} ({})\"]",
                label(slice.id()),
                slice.estimated_difficulty()
            );
        }
        out.push_str("  end\n");
    }
    for (before, after) in &plan.parts().dependencies {
        let _ = writeln!(out, "  s{before} --> s{after}");
    }
    let path: Vec<String> = plan
        .critical_path()
        .iter()
        .map(|at| format!("s{at}"))
        .collect();
    let _ = writeln!(
        out,
        "  classDef critical stroke-width:4px\n  class {} critical",
        path.join(",")
    );
    out
}

/// A graph of Graphviz, slices of one wave in one rank, the critical path bold.
pub(crate) fn dot(plan: &Plan) -> String {
    let quoted = |text: &str| {
        format!(
            "\"{}\"",
            line(text).replace('\\', "\\\\").replace('"', "\\\"")
        )
    };
    let mut out = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box];\n");
    let path = plan.critical_path();
    for (_, slices) in waves(plan) {
        out.push_str("  { rank=same;\n");
        for (at, slice) in slices {
            let bold = if path.contains(&at) {
                ", style=bold"
            } else {
                ""
            };
            let label = format!("{} ({})", slice.id(), slice.estimated_difficulty());
            let _ = writeln!(out, "    s{at} [label={}{bold}];", quoted(&label));
        }
        out.push_str("  }\n");
    }
    for (before, after) in &plan.parts().dependencies {
        let on_path = path.windows(2).any(|pair| pair == [*before, *after]);
        let bold = if on_path { " [style=bold]" } else { "" };
        let _ = writeln!(out, "  s{before} -> s{after}{bold};");
    }
    out.push_str("}\n");
    out
}

/// A row for each slice, as RFC 4180 quotes them, with line feeds. Lists are separated by blanks; a path with a blank in it
/// reads as two.
pub(crate) fn csv(plan: &Plan) -> String {
    let cell = |text: &str| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    };
    let mut out =
        String::from("id,wave,critical,difficulty,estimated_tokens,after,write_set,description\n");
    for (number, slices) in waves(plan) {
        for (at, slice) in slices {
            let cells = [
                cell(slice.id()),
                number.to_string(),
                plan.critical_path().contains(&at).to_string(),
                slice.estimated_difficulty().to_string(),
                slice
                    .estimated_tokens()
                    .map(|tokens| tokens.to_string())
                    .unwrap_or_default(),
                cell(&awaited(plan, at).join(" ")),
                cell(&slice.write_set().join(" ")),
                cell(slice.description()),
            ];
            let _ = writeln!(out, "{}", cells.join(","));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::money::Usd;
    use crate::plan::read::read_plan;

    fn document() -> PlanDocument {
        let plan = read_plan(
            r#"{"goal_text":"Add <b>login</b>\nnow","kind":"greenfield","confidence":0.92,"reasoning":"New.","is_testable":true,
            "complexity_score":5,"estimated_hours":12.5,"slices":[
            {"id":"store","description":"Store \"tokens\", safely.","write_set":["src/store.rs"],"estimated_tokens":80000},
            {"id":"call`back","description":"Handle it.","write_set":["src/a.rs","b.rs"],"estimated_difficulty":"hard"},
            {"id":"docs","description":"Write.","estimated_difficulty":"easy","estimated_tokens":20000}],
            "dependencies":[["store","call`back"]],"acceptance_criteria":["`GET /login` answers 302"]}"#,
        );
        let mut document = PlanDocument::new(plan.unwrap());
        document.estimate = Some(WorkEstimate {
            model: "kimi-k3".to_string(),
            input_tokens: 435_000,
            output_tokens: 145_000,
            usd: Usd::parse("3.48").ok(),
            basis: "the plan's estimates of 2 of 3 slices, typical tokens of the others' difficulty; 3 tokens of prompt to 1 of answer, none of them cached, at the ordinary rates".to_string(),
        });
        document
    }

    #[test]
    fn as_text() {
        assert_eq!(
            text(&document()),
            "goal        Add <b>login</b> now
kind        greenfield, 92% sure
            New.
complexity  5 of 10, 12.5 hours
testable    yes

wave 1
  slice  difficulty  tokens  after
  store  medium       80000
    Store \"tokens\", safely.
    writes src/store.rs
  docs   easy         20000
    Write.

wave 2
  slice      difficulty   tokens  after
  call`back  hard        ~480000  store
    Handle it.
    writes src/a.rs, b.rs

critical path: store -> call`back

done when
  - `GET /login` answers 302

estimate: ~435000 tokens of prompt and ~145000 of answer, ~$3.48 on kimi-k3
  from the plan's estimates of 2 of 3 slices, typical tokens of the others' difficulty; 3 tokens of prompt to 1 of answer, none of them cached, at the ordinary rates
"
        );
    }

    #[test]
    fn as_markdown() {
        let shown = markdown(&document());
        for part in [
            "# Plan: Add &lt;b>login&lt;/b> now\n\n- Kind: greenfield, 92% sure. New.\n",
            "- Critical path: `store` → `` call`back ``\n",
            "\n## Wave 2\n\n- [ ] `` call`back `` (hard, ~480000 tokens): Handle it.\n  - after `store`\n  - writes `src/a.rs`, `b.rs`\n",
            "\n## Acceptance criteria\n\n- [ ] `GET /login` answers 302\n",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
    }

    #[test]
    fn as_graphs() {
        assert_eq!(
            mermaid(&document().plan),
            "flowchart LR
  subgraph wave1 [\"wave 1\"]
    s0[\"store (medium)\"]
    s2[\"docs (easy)\"]
  end
  subgraph wave2 [\"wave 2\"]
    s1[\"call#96;back (hard)\"]
  end
  s0 --> s1
  classDef critical stroke-width:4px
  class s0,s1 critical
"
        );
        assert_eq!(
            dot(&document().plan),
            "digraph plan {
  rankdir=LR;
  node [shape=box];
  { rank=same;
    s0 [label=\"store (medium)\", style=bold];
    s2 [label=\"docs (easy)\"];
  }
  { rank=same;
    s1 [label=\"call`back (hard)\", style=bold];
  }
  s0 -> s1 [style=bold];
}
"
        );
    }

    #[test]
    fn as_rows() {
        assert_eq!(
            csv(&document().plan),
            "id,wave,critical,difficulty,estimated_tokens,after,write_set,description
store,1,true,medium,80000,,src/store.rs,\"Store \"\"tokens\"\", safely.\"
docs,1,false,easy,20000,,,Write.
call`back,2,true,hard,,store,src/a.rs b.rs,Handle it.
"
        );
    }

    proptest! {
        /// Whatever the words are, they stay where they were put.
        #[test]
        fn no_word_leaves_its_place(words in "[\"\\\\`<>#;&%{}\\[\\](),\n\r\u{1b}a]{1,16}") {
            let answer = serde_json::json!({
                "goal_text": words, "kind": "repair", "complexity_score": 1, "acceptance_criteria": [format!("x{words}")],
                "slices": [{"id": format!("x{words}"), "description": format!("x{words}")}, {"description": "y"}],
            });
            let document = PlanDocument::new(read_plan(&answer.to_string()).unwrap());
            let rows = |text: &str| text.matches('\n').count();
            let plain = PlanDocument::new(read_plan(
                r#"{"goal_text":"x","kind":"repair","complexity_score":1,"acceptance_criteria":["x"],"slices":[{"description":"x"},{"description":"y"}]}"#,
            ).unwrap());
            prop_assert_eq!(rows(&markdown(&document)), rows(&markdown(&plain)));
            prop_assert_eq!(rows(&mermaid(&document.plan)), rows(&mermaid(&plain.plan)));
            prop_assert_eq!(rows(&dot(&document.plan)), rows(&dot(&plain.plan)));
            let shown = markdown(&document).replace(&code(&format!("x{words}")), "");
            let is_tag = shown.contains('<');
            prop_assert!(!is_tag);
            let escaped = !text(&document).contains('\u{1b}');
            prop_assert!(escaped);
            // Quotes come in pairs, so no label or cell ends early.
            let quotes = |text: &str| text.replace("\\\\", "").replace("\\\"", "").matches('"').count();
            prop_assert_eq!(quotes(&dot(&document.plan)), 4);
            prop_assert_eq!(mermaid(&document.plan).matches('"').count(), 6);
            prop_assert_eq!(csv(&document.plan).matches('"').count() % 2, 0);
        }
    }
}
