//! A goal becomes a plan: ask, parse, and once ask again with what was wrong.
//!
//! What a round used is kept whether or not it came to anything, since it was paid for: the outcome and the failure alike
//! carry every round. It does not repair an answer itself: the model is shown the findings and answers anew, once; what is
//! still wrong then is the caller's to see, with the answer whole.

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;

use crate::catalog::money::Charge;
use crate::llm::client::Event;
use crate::llm::client::LlmClient;
use crate::llm::client::Observer;
use crate::llm::client::Stop;
use crate::llm::error::LlmError;
use crate::llm::parser;
use crate::llm::prompt;
use crate::llm::prompt::Brief;
use crate::llm::prompt::Prompt;
use crate::llm::prompt::Template;
use crate::llm::types::Complexity;
use crate::llm::types::FinishReason;
use crate::llm::types::GoalClassification;
use crate::llm::types::LlmResponse;
use crate::llm::types::Plan;
use crate::llm::types::TokenBudget;
use crate::llm::types::Usage;
use crate::plan::finding::Findings;

/// One request of a planner and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// What was asked with.
    pub template: Template,
    /// The answer, or why there is none.
    pub outcome: Result<LlmResponse, LlmError>,
    /// What was used, as far as anyone told; of a failed request what its events told.
    pub usage: Option<Usage>,
}

/// Every request of a planner, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rounds(pub Vec<Round>);

impl Rounds {
    /// The usage of all of them together. A figure that one of them does not tell is unknown in the sum; `None` when there
    /// was no request, or one whose usage nobody told.
    pub fn usage(&self) -> Option<Usage> {
        let mut sum: Option<Usage> = None;
        for round in &self.0 {
            let usage = match (&round.usage, &round.outcome) {
                (Some(usage), _) => usage,
                // Nothing was used, so there is nothing to know.
                (None, Err(error)) if error.may_have_charged() == Charge::No => continue,
                (None, _) => return None,
            };
            sum = Some(sum.map_or(*usage, |sum| sum.plus(usage)));
        }
        sum
    }

    /// Whether they cost money together.
    pub fn charged(&self) -> Charge {
        let each = self.0.iter().map(|round| match &round.outcome {
            Ok(_) => Charge::Yes,
            Err(error) => error.may_have_charged(),
        });
        each.fold(Charge::No, Charge::plus)
    }

    /// The last answer, which was paid for even if it could not be understood.
    pub fn last_answer(&self) -> Option<&str> {
        let newest_first = self.0.iter().rev();
        let mut answers = newest_first.filter_map(|round| round.outcome.as_ref().ok());
        answers.next().map(|response| response.text.as_str())
    }

    /// The templates, in order, as a plan records them.
    pub fn templates(&self) -> Vec<String> {
        let ids = self.0.iter().map(|round| round.template.name().to_string());
        ids.collect()
    }
}

/// What a planner found out, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned<T> {
    /// What was asked for.
    pub value: T,
    /// What it took.
    pub rounds: Rounds,
}

/// Why a planner found nothing out, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanningError {
    /// What ended it. [`LlmError::Parse`] has the last answer whole; when the repair could not be asked for, this says why,
    /// and [`Rounds::last_answer`] has the answer.
    pub error: LlmError,
    /// What it took.
    pub rounds: Rounds,
}

impl fmt::Display for PlanningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for PlanningError {}

/// What a planner returns.
pub type PlanResult<T> = Result<Planned<T>, Box<PlanningError>>;

/// Someone who plans. Like a client it counts in the budget what it uses, and hands events to the observer; before a second
/// answer comes [`Event::Superseded`].
pub trait Planner {
    /// What kind of goal it is.
    ///
    /// # Errors
    ///
    /// See [`PlanningError`]; so for every method.
    fn classify(
        &mut self,
        brief: &Brief,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<GoalClassification>;

    /// The slices of a goal whose kind is known, without criteria.
    ///
    /// # Errors
    ///
    /// See [`PlanningError`].
    fn decompose(
        &mut self,
        brief: &Brief,
        classification: &GoalClassification,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<Plan>;

    /// How one will know that the goal is reached; `slices` says what will be done, if that is known.
    ///
    /// # Errors
    ///
    /// See [`PlanningError`].
    fn generate_criteria(
        &mut self,
        brief: &Brief,
        slices: &[String],
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<Vec<String>>;

    /// How large the goal is.
    ///
    /// # Errors
    ///
    /// See [`PlanningError`].
    fn estimate_complexity(
        &mut self,
        brief: &Brief,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<Complexity>;

    /// The whole plan by one request.
    ///
    /// # Errors
    ///
    /// See [`PlanningError`].
    fn plan(
        &mut self,
        brief: &Brief,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<Plan>;

    /// The whole plan by separate requests, for models that do less well with everything at once: classify, decompose,
    /// criteria, complexity.
    ///
    /// # Errors
    ///
    /// That of the first that fails, with the rounds of those before it.
    fn plan_in_steps(
        &mut self,
        brief: &Brief,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<Plan> {
        let mut rounds = Rounds::default();
        let classification = collect(self.classify(brief, budget, observer), &mut rounds)?;
        let decomposed = self.decompose(brief, &classification, budget, observer);
        let plan = collect(decomposed, &mut rounds)?;
        let slices = plan.parts().slices.iter();
        let slices: Vec<String> = slices
            .map(|slice| format!("{}: {}", slice.id(), slice.description()))
            .collect();
        let criteria = self.generate_criteria(brief, &slices, budget, observer);
        let criteria = collect(criteria, &mut rounds)?;
        let complexity = collect(
            self.estimate_complexity(brief, budget, observer),
            &mut rounds,
        )?;
        let mut parts = plan.into_parts();
        parts.kind = classification.kind();
        parts.confidence = Some(classification.confidence());
        parts.reasoning = classification.reasoning().to_string();
        parts.is_testable = Some(classification.is_testable());
        parts.suggested_refinement = classification.suggested_refinement().map(str::to_string);
        parts.complexity = complexity;
        parts.acceptance_criteria = criteria;
        parts.templates = rounds.templates();
        finish(parts, rounds)
    }
}

/// Takes the value, and the rounds in any case.
fn collect<T>(result: PlanResult<T>, rounds: &mut Rounds) -> Result<T, Box<PlanningError>> {
    match result {
        Ok(planned) => {
            rounds.0.extend(planned.rounds.0);
            Ok(planned.value)
        }
        Err(mut failed) => {
            let own = std::mem::take(&mut failed.rounds.0);
            rounds.0.extend(own);
            failed.rounds = std::mem::take(rounds);
            Err(failed)
        }
    }
}

/// A plan of parts that were valid before a change that cannot have spoiled them.
fn finish(parts: crate::llm::types::PlanParts, rounds: Rounds) -> PlanResult<Plan> {
    match Plan::new(parts) {
        Ok(value) => Ok(Planned { value, rounds }),
        Err(error) => {
            let raw = rounds.last_answer().unwrap_or_default().to_string();
            let detail = error.to_string();
            let error = LlmError::Parse { detail, raw };
            Err(Box::new(PlanningError { error, rounds }))
        }
    }
}

/// Plans by asking a model.
///
/// ```
/// use omk::llm::client::MockLlmClient;
/// use omk::llm::planner::{LlmPlanner, Planner};
/// use omk::llm::prompt::Brief;
/// use omk::llm::types::TokenBudget;
///
/// let client = MockLlmClient::default().reply(r#"{"score": 3, "reasoning": "one endpoint"}"#);
/// let mut planner = LlmPlanner::new(client);
/// let brief = Brief::new("Add an endpoint");
/// let planned = planner.estimate_complexity(&brief, &mut TokenBudget::unlimited(), &mut ())?;
/// assert_eq!(planned.value.score(), 3);
/// # Ok::<(), Box<omk::llm::planner::PlanningError>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LlmPlanner<C> {
    client: C,
    repairs: u32,
    max_output_tokens: Option<u64>,
    cache_key: Option<String>,
}

impl<C: LlmClient> LlmPlanner<C> {
    /// A planner that asks this client, and repairs once.
    pub fn new(client: C) -> LlmPlanner<C> {
        LlmPlanner {
            client,
            repairs: 1,
            max_output_tokens: None,
            cache_key: None,
        }
    }

    /// With this many repairs for each question; 0 for none.
    #[must_use]
    pub fn repairs(self, repairs: u32) -> LlmPlanner<C> {
        LlmPlanner { repairs, ..self }
    }

    /// With a limit on each answer, in tokens.
    #[must_use]
    pub fn max_output_tokens(self, tokens: Option<u64>) -> LlmPlanner<C> {
        LlmPlanner {
            max_output_tokens: tokens,
            ..self
        }
    }

    /// With a key by which the service finds its cache again.
    #[must_use]
    pub fn cache_key(self, key: Option<String>) -> LlmPlanner<C> {
        LlmPlanner {
            cache_key: key,
            ..self
        }
    }

    /// The client.
    pub fn client(&self) -> &C {
        &self.client
    }

    /// Gives the client back.
    pub fn into_client(self) -> C {
        self.client
    }

    fn ask<T>(
        &mut self,
        first: Prompt,
        read: impl Fn(&str) -> Result<T, Findings>,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<T> {
        let mut rounds = Rounds::default();
        let mut prompt = first.clone();
        let mut repairs = self.repairs;
        loop {
            let response = match self.round(&prompt, budget, observer, &mut rounds) {
                Ok(response) => response,
                Err(error) => return Err(Box::new(PlanningError { error, rounds })),
            };
            let findings = match read(&response.text) {
                Ok(value) => return Ok(Planned { value, rounds }),
                Err(findings) => findings,
            };
            let was_cut = response.finish_reason == Some(FinishReason::Length);
            // An answer that did not fit would not fit the next time either.
            if repairs == 0 || was_cut {
                let mut error = parser::refused(&findings, &response.text);
                if let LlmError::Parse { detail, .. } = &mut error
                    && was_cut
                {
                    detail.insert_str(0, "the length limit cut the answer: ");
                }
                return Err(Box::new(PlanningError { error, rounds }));
            }
            repairs -= 1;
            prompt = prompt::repair(&first, &response.text, &findings);
            if let ControlFlow::Break(stop) = observer.on_event(Event::Superseded) {
                let error = stopped(stop);
                return Err(Box::new(PlanningError { error, rounds }));
            }
        }
    }

    /// One request; what it used is noted in any case.
    fn round(
        &mut self,
        prompt: &Prompt,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
        rounds: &mut Rounds,
    ) -> Result<LlmResponse, LlmError> {
        let mut request = prompt.request();
        request.max_output_tokens = self.max_output_tokens;
        request.cache_key = self.cache_key.clone();
        let mut told: Option<Usage> = None;
        let mut listening = |event: Event<'_>| {
            if let Event::Usage(usage) = event {
                told = Some(*usage);
            }
            observer.on_event(event)
        };
        let outcome = self.client.run(&request, budget, &mut listening);
        rounds.0.push(Round {
            template: prompt.template,
            usage: outcome
                .as_ref()
                .map_or(told, |response| Some(response.usage)),
            outcome: outcome.clone(),
        });
        outcome
    }
}

/// The error for an observer that wants no second answer.
fn stopped(stop: Stop) -> LlmError {
    match stop {
        Stop::Interrupted => LlmError::Interrupted { begun: false },
        Stop::Budget(detail) => LlmError::BudgetExhausted {
            detail,
            begun: false,
        },
        Stop::Output(detail) => LlmError::Io { detail },
    }
}

impl<C: LlmClient> Planner for LlmPlanner<C> {
    fn classify(
        &mut self,
        brief: &Brief,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<GoalClassification> {
        self.ask(
            prompt::classify(brief),
            parser::read_classification,
            budget,
            observer,
        )
    }

    fn decompose(
        &mut self,
        brief: &Brief,
        classification: &GoalClassification,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<Plan> {
        let prompt = prompt::decompose(brief, classification);
        let planned = self.ask(prompt, parser::read_plan, budget, observer)?;
        let mut parts = planned.value.into_parts();
        parts.goal_text = brief.goal.clone();
        parts.kind = classification.kind();
        parts.templates = planned.rounds.templates();
        finish(parts, planned.rounds)
    }

    fn generate_criteria(
        &mut self,
        brief: &Brief,
        slices: &[String],
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<Vec<String>> {
        self.ask(
            prompt::criteria(brief, slices),
            parser::read_criteria,
            budget,
            observer,
        )
    }

    fn estimate_complexity(
        &mut self,
        brief: &Brief,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<Complexity> {
        self.ask(
            prompt::complexity(brief),
            parser::read_complexity,
            budget,
            observer,
        )
    }

    fn plan(
        &mut self,
        brief: &Brief,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> PlanResult<Plan> {
        let planned = self.ask(prompt::plan(brief), parser::read_plan, budget, observer)?;
        let mut parts = planned.value.into_parts();
        // The goal is the user's, not what the model made of it; the templates are what was asked with.
        parts.goal_text = brief.goal.clone();
        parts.templates = planned.rounds.templates();
        finish(parts, planned.rounds)
    }
}

/// A planner that answers from lists: a double for tests, here and in programs that use this library. An empty list is an
/// error, never an answer made up. Events it has none; usage is what the outcomes say.
#[derive(Clone, Debug, Default)]
pub struct MockPlanner {
    classifications: VecDeque<PlanResult<GoalClassification>>,
    plans: VecDeque<PlanResult<Plan>>,
    criteria: VecDeque<PlanResult<Vec<String>>>,
    complexities: VecDeque<PlanResult<Complexity>>,
    calls: Vec<(Template, Brief)>,
}

/// An outcome without rounds, for [`MockPlanner`].
impl<T> From<T> for Planned<T> {
    fn from(value: T) -> Planned<T> {
        Planned {
            value,
            rounds: Rounds::default(),
        }
    }
}

impl From<LlmError> for Box<PlanningError> {
    fn from(error: LlmError) -> Box<PlanningError> {
        Box::new(PlanningError {
            error,
            rounds: Rounds::default(),
        })
    }
}

impl MockPlanner {
    /// With one more outcome of [`Planner::classify`].
    #[must_use]
    pub fn classification(mut self, outcome: PlanResult<GoalClassification>) -> MockPlanner {
        self.classifications.push_back(outcome);
        self
    }

    /// With one more outcome of [`Planner::plan`] or [`Planner::decompose`].
    #[must_use]
    pub fn planned(mut self, outcome: PlanResult<Plan>) -> MockPlanner {
        self.plans.push_back(outcome);
        self
    }

    /// With one more outcome of [`Planner::generate_criteria`].
    #[must_use]
    pub fn criteria(mut self, outcome: PlanResult<Vec<String>>) -> MockPlanner {
        self.criteria.push_back(outcome);
        self
    }

    /// With one more outcome of [`Planner::estimate_complexity`].
    #[must_use]
    pub fn complexity(mut self, outcome: PlanResult<Complexity>) -> MockPlanner {
        self.complexities.push_back(outcome);
        self
    }

    /// What was asked so far, in order.
    pub fn calls(&self) -> &[(Template, Brief)] {
        &self.calls
    }

    fn call(&mut self, template: Template, brief: &Brief) {
        self.calls.push((template, brief.clone()));
    }
}

fn next<T>(outcomes: &mut VecDeque<PlanResult<T>>, template: Template) -> PlanResult<T> {
    outcomes.pop_front().unwrap_or_else(|| {
        let detail = format!("the mock has no answer to {}", template.name());
        Err(LlmError::AgentUnavailable { detail }.into())
    })
}

impl Planner for MockPlanner {
    fn classify(
        &mut self,
        brief: &Brief,
        _: &mut TokenBudget,
        _: &mut dyn Observer,
    ) -> PlanResult<GoalClassification> {
        self.call(Template::Classify, brief);
        next(&mut self.classifications, Template::Classify)
    }

    fn decompose(
        &mut self,
        brief: &Brief,
        _: &GoalClassification,
        _: &mut TokenBudget,
        _: &mut dyn Observer,
    ) -> PlanResult<Plan> {
        self.call(Template::Decompose, brief);
        next(&mut self.plans, Template::Decompose)
    }

    fn generate_criteria(
        &mut self,
        brief: &Brief,
        _: &[String],
        _: &mut TokenBudget,
        _: &mut dyn Observer,
    ) -> PlanResult<Vec<String>> {
        self.call(Template::Criteria, brief);
        next(&mut self.criteria, Template::Criteria)
    }

    fn estimate_complexity(
        &mut self,
        brief: &Brief,
        _: &mut TokenBudget,
        _: &mut dyn Observer,
    ) -> PlanResult<Complexity> {
        self.call(Template::Complexity, brief);
        next(&mut self.complexities, Template::Complexity)
    }

    fn plan(
        &mut self,
        brief: &Brief,
        _: &mut TokenBudget,
        _: &mut dyn Observer,
    ) -> PlanResult<Plan> {
        self.call(Template::Plan, brief);
        next(&mut self.plans, Template::Plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::client::MockLlmClient;
    use crate::llm::types::GoalKind;
    use crate::llm::types::UsageSource;

    const GOOD: &str = r#"{"goal_text":"ignored","kind":"greenfield","complexity_score":4,
        "slices":[{"id":"a","description":"do a","write_set":["a.rs"]},{"id":"b","description":"do b"}],
        "dependencies":[["a","b"]],"acceptance_criteria":["`make test` passes"],"templates":["forged/9"]}"#;
    const CIRCLE: &str = r#"{"kind":"greenfield","complexity_score":4,"slices":[{"id":"a","description":"x"},
        {"id":"b","description":"y"}],"dependencies":[["a","b"],["b","a"]]}"#;

    fn answer(text: &str, input: u64, output: u64) -> Result<LlmResponse, LlmError> {
        let mut response = LlmResponse::of(text);
        response.usage =
            Usage::from_prompt_total(Some(input), None, None, Some(output), UsageSource::Provider);
        Ok(response)
    }

    fn plan(
        client: MockLlmClient,
        observer: &mut dyn Observer,
    ) -> (PlanResult<Plan>, LlmPlanner<MockLlmClient>) {
        let mut planner = LlmPlanner::new(client);
        let brief = Brief::new("Build it");
        let result = planner.plan(&brief, &mut TokenBudget::unlimited(), observer);
        (result, planner)
    }

    #[test]
    fn a_good_answer_is_a_plan_of_the_users_goal() {
        let client = MockLlmClient::default().outcome(answer(GOOD, 100, 20));
        let (result, planner) = plan(client, &mut ());
        let planned = result.unwrap();
        let parts = planned.value.parts();
        assert_eq!(
            (parts.goal_text.as_str(), parts.templates.as_slice()),
            ("Build it", &["plan/1".to_string()][..])
        );
        assert_eq!(planned.rounds.usage().unwrap().total(), 120);
        assert_eq!(planned.rounds.charged(), Charge::Yes);
        let calls = planner.client().calls();
        assert!(calls.len() == 1 && calls[0].schema.is_some() && calls[0].system.is_some());
    }

    #[test]
    fn a_refused_answer_is_repaired_once_with_the_findings() {
        let client = MockLlmClient::default()
            .outcome(answer(CIRCLE, 100, 20))
            .outcome(answer(GOOD, 200, 30));
        let mut events = Vec::new();
        let mut observer = |event: Event<'_>| {
            match event {
                Event::Superseded => events.push("superseded"),
                Event::Text(_) => events.push("text"),
                _ => {}
            }
            ControlFlow::Continue(())
        };
        let (result, planner) = plan(client, &mut observer);
        let planned = result.unwrap();
        assert_eq!(planned.value.parts().templates, ["plan/1", "repair/1"]);
        assert_eq!(planned.rounds.usage().unwrap().total(), 350);
        assert_eq!(events, ["text", "superseded", "text"]);
        let repair = &planner.client().calls()[1].text;
        assert!(
            repair.contains("OMK-P011: $.dependencies: cycle: a -> b -> a"),
            "{repair}"
        );
    }

    #[test]
    fn what_is_still_wrong_is_an_error_with_the_answer_whole() {
        let client = MockLlmClient::default()
            .outcome(answer("no", 100, 1))
            .outcome(answer(CIRCLE, 200, 20));
        let (result, planner) = plan(client, &mut ());
        let failed = result.unwrap_err();
        let LlmError::Parse { detail, raw } = &failed.error else {
            panic!("{failed}");
        };
        assert_eq!(
            (detail.as_str(), raw.as_str()),
            ("OMK-P011: $.dependencies: cycle: a -> b -> a", CIRCLE)
        );
        assert_eq!(failed.rounds.usage().unwrap().total(), 321);
        assert_eq!(failed.rounds.last_answer(), Some(CIRCLE));
        assert_eq!(planner.client().calls().len(), 2);
        let none = MockLlmClient::default().outcome(answer("no", 1, 1));
        let mut planner = LlmPlanner::new(none).repairs(0);
        let result = planner.plan(&Brief::new("x"), &mut TokenBudget::unlimited(), &mut ());
        assert_eq!(result.unwrap_err().rounds.0.len(), 1);
    }

    #[test]
    fn a_repair_that_cannot_be_asked_for_says_why_and_keeps_the_answer() {
        let client = MockLlmClient::default()
            .outcome(answer("no", 5000, 1))
            .reply(GOOD);
        let mut planner = LlmPlanner::new(client);
        let mut budget = TokenBudget::new(5000);
        let failed = planner
            .plan(&Brief::new("x"), &mut budget, &mut ())
            .unwrap_err();
        assert!(matches!(
            failed.error,
            LlmError::BudgetExhausted { begun: false, .. }
        ));
        assert_eq!(failed.rounds.last_answer(), Some("no"));
        assert_eq!(failed.rounds.usage().unwrap().total(), 5001);
        assert_eq!(failed.rounds.charged(), Charge::Yes);
        // An observer may end it between the two.
        let client = MockLlmClient::default()
            .outcome(answer("no", 100, 1))
            .reply(GOOD);
        let mut stop = |event: Event<'_>| match event {
            Event::Superseded => ControlFlow::Break(Stop::Interrupted),
            _ => ControlFlow::Continue(()),
        };
        let (result, planner) = plan(client, &mut stop);
        assert_eq!(
            result.unwrap_err().error,
            LlmError::Interrupted { begun: false }
        );
        assert_eq!(planner.client().remaining(), 1);
    }

    #[test]
    fn an_answer_cut_at_the_limit_is_not_asked_for_again() {
        let mut cut = LlmResponse::of(&GOOD[..40]);
        cut.finish_reason = Some(FinishReason::Length);
        let (result, planner) = plan(
            MockLlmClient::default().outcome(Ok(cut)).reply(GOOD),
            &mut (),
        );
        let message = result.unwrap_err().to_string();
        assert!(
            message.starts_with("invalid answer: the length limit cut the answer: OMK-P001"),
            "{message}"
        );
        assert_eq!(planner.client().remaining(), 1);
    }

    #[test]
    fn a_failure_of_the_client_is_passed_on_with_what_its_events_told() {
        let error = LlmError::Timeout {
            phase: "waiting".to_string(),
            sent: true,
        };
        let client = MockLlmClient::default().outcome(Err(error.clone()));
        let failed = plan(client, &mut ()).0.unwrap_err();
        assert_eq!((failed.error.clone(), failed.rounds.usage()), (error, None));
        assert_eq!(failed.rounds.charged(), Charge::Unknown);
    }

    #[test]
    fn steps_come_to_one_plan() {
        let client = MockLlmClient::default()
            .reply(r#"{"kind":"repair","confidence":0.8,"is_testable":true,"suggested_refinement":null}"#)
            .reply(GOOD)
            .reply(r#"["`make test` passes","`omk --help` exits 0"]"#)
            .reply(r#"{"score":7,"reasoning":"much","estimated_hours":12}"#);
        let mut planner = LlmPlanner::new(client);
        let planned = planner.plan_in_steps(
            &Brief::new("Mend it"),
            &mut TokenBudget::unlimited(),
            &mut (),
        );
        let planned = planned.unwrap();
        let parts = planned.value.parts();
        assert_eq!(
            (parts.kind, parts.confidence, parts.complexity.score()),
            (GoalKind::Repair, Some(0.8), 7)
        );
        assert_eq!(parts.acceptance_criteria.len(), 2);
        assert_eq!(
            parts.templates,
            ["classify/1", "decompose/1", "criteria/1", "complexity/1"]
        );
        assert!(
            planner.client().calls()[2]
                .text
                .contains("a: do a\nb: do b")
        );
        // A step that fails brings the rounds before it.
        let client = MockLlmClient::default()
            .reply(r#"{"kind":"repair","confidence":0.8,"is_testable":true}"#)
            .reply("no")
            .reply("no");
        let failed = LlmPlanner::new(client).plan_in_steps(
            &Brief::new("x"),
            &mut TokenBudget::unlimited(),
            &mut (),
        );
        assert_eq!(
            failed.unwrap_err().rounds.templates(),
            ["classify/1", "decompose/1", "repair/1"]
        );
    }

    #[test]
    fn the_double_answers_from_its_lists() {
        let complexity = Complexity::new(3, "", None).unwrap();
        let mut mock = MockPlanner::default().complexity(Ok(complexity.clone().into()));
        let (brief, mut budget) = (Brief::new("x"), TokenBudget::unlimited());
        assert_eq!(
            mock.estimate_complexity(&brief, &mut budget, &mut ())
                .unwrap()
                .value,
            complexity
        );
        let failed = mock.plan(&brief, &mut budget, &mut ()).unwrap_err();
        assert_eq!(
            failed.to_string(),
            "no agent: the mock has no answer to plan/1"
        );
        let asked: Vec<Template> = mock.calls().iter().map(|(template, _)| *template).collect();
        assert_eq!(asked, [Template::Complexity, Template::Plan]);
    }
}
