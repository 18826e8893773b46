//! `omk.plan/1`: a plan as one JSON document, and back.
//!
//! The document is a superset of what a model answers: it adds what follows from the plan (waves, critical path), what
//! carrying it out may cost, and the usage and cost of planning. Parse after print is the identity, for the members that
//! are the plan's; those that follow are computed anew and, where a file has others, that is a finding. It refuses to
//! interpret `usage` and `cost`: they belong to the run that made the plan and are carried along as they are.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::catalog::money::Usd;
use crate::plan::finding::Code;
use crate::plan::finding::Findings;
use crate::plan::model::Plan;
use crate::plan::model::WorkEstimate;
use crate::plan::read;
use crate::plan::read::Reader;
use crate::runtime::json;
use crate::runtime::json::Json;
use crate::runtime::json::Node;
use crate::runtime::json::Wants;
use crate::runtime::json::element;
use crate::runtime::json::member;

/// The name of the schema. Members are only ever added to it.
pub const SCHEMA: &str = "omk.plan/1";

/// A plan with what a run knows about it.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanDocument {
    /// The plan.
    pub plan: Plan,
    /// What carrying it out may take and cost.
    pub estimate: Option<WorkEstimate>,
    /// The usage of planning, as in `omk.result/1`.
    pub usage: Option<Value>,
    /// The cost of planning, as in `omk.result/1`.
    pub cost: Option<Value>,
}

impl PlanDocument {
    /// A document of the plan alone.
    pub fn new(plan: Plan) -> PlanDocument {
        PlanDocument {
            plan,
            estimate: None,
            usage: None,
            cost: None,
        }
    }

    /// The document on one line.
    pub fn to_json(&self) -> String {
        // Every key is a text and every number finite, so there is nothing that could fail.
        serde_json::to_string(&PlanMembers::of(self)).unwrap_or_default()
    }

    /// Reads a document, or anything else that [`read::read_plan`] reads.
    ///
    /// # Errors
    ///
    /// Every error of the text, in its order.
    pub fn parse(text: &str) -> Result<PlanDocument, Findings> {
        let node = json::find(text, Wants::Object).map_err(read::broken)?;
        let (document, findings) = PlanDocument::read(text, &node);
        match document {
            Some(document) if !findings.has_errors() => Ok(document),
            _ => Err(findings.sorted()),
        }
    }

    /// The document that a value of the text is, and what is wrong with it.
    pub(crate) fn read(text: &str, node: &Node) -> (Option<PlanDocument>, Findings) {
        let mut reader = Reader::default();
        reader.find_duplicate_keys(node);
        let plan = reader.plan(node);
        // Equal keys are an error too.
        let plan = plan.filter(|_| !reader.findings.has_errors());
        let (Some(plan), Some(fields)) = (plan, reader.fields(node, "$")) else {
            return (None, reader.findings);
        };
        let mut document = PlanDocument::new(plan);
        // What a model volunteers under these names is not ours.
        if fields.get("schema").is_some() {
            // Numbers that no double holds become nothing: nothing here computes with them.
            let value = |key: &str| {
                let source = fields.get(key).and_then(|node| text.get(node.at..node.end));
                source.map(|source| serde_json::from_str(source).unwrap_or_default())
            };
            document.estimate = reader.optional(&fields, "estimate", estimate);
            document.usage = value("usage");
            document.cost = value("cost");
            follows(
                &mut reader,
                &document.plan,
                fields.get("waves"),
                fields.get("critical_path"),
            );
        }
        (Some(document), reader.findings)
    }
}

/// Holds what the file says against what follows from its dependencies.
fn follows(reader: &mut Reader, plan: &Plan, waves: Option<&Node>, path: Option<&Node>) {
    let ids = |slices: &[usize]| -> Vec<String> {
        let slices = slices.iter().filter_map(|at| plan.slice(*at));
        slices.map(|slice| slice.id().to_string()).collect()
    };
    if let Some(node) = waves {
        let place = member("$", "waves");
        let written: Option<Vec<Vec<String>>> = reader.list(node, &place).and_then(|list| {
            let waves = list.iter().enumerate();
            let waves: Vec<_> = waves
                .map(|(i, wave)| reader.texts(wave, &element(&place, i)))
                .collect();
            waves.into_iter().collect()
        });
        let computed: Vec<Vec<String>> = plan.waves().iter().map(|wave| ids(wave)).collect();
        if written.is_some_and(|written| written != computed) {
            let message =
                "not the waves of these dependencies; leave the member out, it is computed";
            reader
                .findings
                .add(Code::Contradiction, place, node.at, message);
        }
    }
    if let Some(node) = path {
        let place = member("$", "critical_path");
        let written = reader.texts(node, &place);
        if written.is_some_and(|written| written != ids(plan.critical_path())) {
            let message =
                "not the critical path of this plan; leave the member out, it is computed";
            reader
                .findings
                .add(Code::Contradiction, place, node.at, message);
        }
    }
}

fn estimate(reader: &mut Reader, node: &Node, path: &str) -> Option<WorkEstimate> {
    let fields = reader.fields(node, path)?;
    let model = reader.required(&fields, "model", Reader::words);
    let input_tokens = reader.required(&fields, "input_tokens", sum_of_tokens);
    let output_tokens = reader.required(&fields, "output_tokens", sum_of_tokens);
    let usd = reader.optional(&fields, "usd", usd);
    let basis = reader.required(&fields, "basis", Reader::words);
    Some(WorkEstimate {
        model: model?,
        input_tokens: input_tokens?,
        output_tokens: output_tokens?,
        usd,
        basis: basis?,
    })
}

fn sum_of_tokens(reader: &mut Reader, node: &Node, path: &str) -> Option<u64> {
    reader.whole_number(node, path, 0, u64::MAX)
}

fn usd(reader: &mut Reader, node: &Node, path: &str) -> Option<Usd> {
    let amount = match &node.json {
        Json::Number(digits) => Usd::parse(digits).ok(),
        _ => None,
    };
    if amount.is_none() {
        reader.wrong_type(node, path, "an amount of US dollars");
    }
    amount
}

/// The members of the document that are about the plan, for a command to put its own beside them.
#[derive(Serialize)]
pub(crate) struct PlanMembers<'a> {
    schema: &'static str,
    goal_text: &'a str,
    kind: &'static str,
    confidence: Option<f64>,
    reasoning: &'a str,
    is_testable: Option<bool>,
    suggested_refinement: Option<&'a str>,
    complexity_score: u8,
    complexity_reasoning: &'a str,
    estimated_hours: Option<f64>,
    slices: Vec<SliceMembers<'a>>,
    dependencies: Vec<[&'a str; 2]>,
    waves: Vec<Vec<&'a str>>,
    critical_path: Vec<&'a str>,
    acceptance_criteria: &'a [String],
    estimated_tokens: Option<u64>,
    templates: &'a [String],
    estimate: Option<EstimateMembers<'a>>,
    usage: Option<&'a Value>,
    cost: Option<&'a Value>,
}

#[derive(Serialize)]
struct SliceMembers<'a> {
    id: &'a str,
    description: &'a str,
    write_set: &'a [String],
    estimated_difficulty: &'static str,
    estimated_tokens: Option<u64>,
}

#[derive(Serialize)]
struct EstimateMembers<'a> {
    model: &'a str,
    input_tokens: u64,
    output_tokens: u64,
    /// Exact: a sum of many slices may have more digits than a double.
    usd: Option<Box<RawValue>>,
    basis: &'a str,
}

impl<'a> PlanMembers<'a> {
    pub(crate) fn of(document: &'a PlanDocument) -> PlanMembers<'a> {
        let plan = &document.plan;
        let parts = plan.parts();
        let id = |at: &usize| plan.slice(*at).map_or("", |slice| slice.id());
        let ids = |slices: &[usize]| slices.iter().map(id).collect::<Vec<_>>();
        PlanMembers {
            schema: SCHEMA,
            goal_text: &parts.goal_text,
            kind: parts.kind.name(),
            confidence: parts.confidence,
            reasoning: &parts.reasoning,
            is_testable: parts.is_testable,
            suggested_refinement: parts.suggested_refinement.as_deref(),
            complexity_score: parts.complexity.score(),
            complexity_reasoning: parts.complexity.reasoning(),
            estimated_hours: parts.complexity.estimated_hours(),
            slices: parts
                .slices
                .iter()
                .map(|slice| SliceMembers {
                    id: slice.id(),
                    description: slice.description(),
                    write_set: slice.write_set(),
                    estimated_difficulty: slice.estimated_difficulty().name(),
                    estimated_tokens: slice.estimated_tokens(),
                })
                .collect(),
            dependencies: parts
                .dependencies
                .iter()
                .map(|(a, b)| [id(a), id(b)])
                .collect(),
            waves: plan.waves().iter().map(|wave| ids(wave)).collect(),
            critical_path: ids(plan.critical_path()),
            acceptance_criteria: &parts.acceptance_criteria,
            estimated_tokens: parts.estimated_tokens,
            templates: &parts.templates,
            estimate: document.estimate.as_ref().map(|estimate| EstimateMembers {
                model: &estimate.model,
                input_tokens: estimate.input_tokens,
                output_tokens: estimate.output_tokens,
                usd: estimate
                    .usd
                    .and_then(|usd| RawValue::from_string(usd.exact_decimal()).ok()),
                basis: &estimate.basis,
            }),
            usage: document.usage.as_ref(),
            cost: document.cost.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"kind":"repair","complexity_score":3,"slices":[
        {"description":"find it","estimated_tokens":1000},{"id":"mend","description":"mend it","write_set":["src/a.rs"]}],
        "dependencies":[[0,"mend"]],"acceptance_criteria":["`cargo test` passes"],"usage":{"input":1},"estimate":{"usd":0}}"#;

    #[test]
    fn a_document_reads_back() {
        let mut document = PlanDocument::parse(ANSWER).unwrap();
        assert_eq!((&document.estimate, &document.usage), (&None, &None));
        document.estimate = Some(WorkEstimate {
            model: "kimi-k3".to_string(),
            input_tokens: 8_250,
            output_tokens: 2_750,
            usd: Usd::parse("0.066000000001").ok(),
            basis: "the plan's estimates of each slice".to_string(),
        });
        document.cost = Some(serde_json::json!({"usd": 0.01, "kind": "metered"}));
        let printed = document.to_json();
        assert_eq!(PlanDocument::parse(&printed).unwrap(), document);
        assert_eq!(PlanDocument::parse(&printed).unwrap().to_json(), printed);
        assert!(printed.starts_with(
            r#"{"schema":"omk.plan/1","goal_text":"","kind":"repair","confidence":null"#
        ));
        assert!(printed.contains(r#""dependencies":[["s1","mend"]],"waves":[["s1"],["mend"]],"critical_path":["s1","mend"]"#));
        assert_eq!(read::read_plan(&printed).unwrap(), document.plan);
    }

    #[test]
    fn what_follows_must_follow() {
        let printed = PlanDocument::parse(ANSWER).unwrap().to_json();
        for (from, to, path) in [
            (
                r#""waves":[["s1"],["mend"]]"#,
                r#""waves":[["s1","mend"]]"#,
                "$.waves",
            ),
            (
                r#""critical_path":["s1","mend"]"#,
                r#""critical_path":["mend"]"#,
                "$.critical_path",
            ),
        ] {
            let findings = PlanDocument::parse(&printed.replace(from, to)).unwrap_err();
            let finding = &findings.list()[0];
            assert_eq!(
                (finding.code, finding.path.as_str()),
                (Code::Contradiction, path)
            );
        }
        let other = printed.replace("omk.plan/1", "omk.estimate/1");
        assert_eq!(
            PlanDocument::parse(&other).unwrap_err().list()[0].code,
            Code::UnknownWord
        );
    }
}
