//! A plan of work: slices, what must come before what, and what follows from the two.
//!
//! Waves and critical path are computed here and never read from anywhere, so they cannot contradict the dependencies. A
//! plan that cannot be carried out cannot be made: without slices, with a circle, with two slices that write one file at
//! the same time. Refuses to look at the file system: a path is a text, compared by its parts.

use std::error::Error;
use std::fmt;

use crate::catalog::money::Usd;
use crate::runtime::words::words;

/// Why a value cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidValue(String);

impl InvalidValue {
    pub(super) fn new(message: impl Into<String>) -> InvalidValue {
        InvalidValue(message.into())
    }
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for InvalidValue {}

/// The most tokens that a plan or slice may be estimated at: a trillion. A larger figure is a slip.
pub const MAX_TOKENS: u64 = 1_000_000_000_000;

/// The most hours that a plan may be estimated at: fifty years of one worker. A larger figure is a slip.
pub const MAX_HOURS: f64 = 100_000.0;

words! {
    /// What kind of work a goal asks for.
    GoalKind, "kind" {
        /// Something new.
        Greenfield = "greenfield",
        /// The same again, otherwise.
        Rewrite = "rewrite",
        /// Something broken.
        Repair = "repair",
        /// Looking, not changing.
        Audit = "audit",
        /// From one platform, version or format to another.
        Migration = "migration",
        /// Too little said to tell.
        Vague = "vague",
    }
}

words! {
    /// How hard one slice of a plan is.
    Difficulty, "difficulty" {
        /// A line or two.
        Trivial = "trivial",
        /// One place, no thinking.
        Easy = "easy",
        /// Several places, or some thinking.
        Medium = "medium",
        /// Much thinking.
        Hard = "hard",
        /// Better cut again.
        Complex = "complex",
    }
}

impl Difficulty {
    /// Tokens that work of this difficulty may take, prompt and answer together: a rule of thumb for what nobody has
    /// estimated. A thousand tokens a minute, the figure of the estimator of sessions, for 10 minutes, half an hour, 2, 8
    /// and 24 hours of one worker.
    pub const fn typical_tokens(self) -> u64 {
        match self {
            Difficulty::Trivial => 10_000,
            Difficulty::Easy => 30_000,
            Difficulty::Medium => 120_000,
            Difficulty::Hard => 480_000,
            Difficulty::Complex => 1_440_000,
        }
    }
}

/// What a goal is.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalClassification {
    kind: GoalKind,
    confidence: f64,
    reasoning: String,
    is_testable: bool,
    suggested_refinement: Option<String>,
}

impl GoalClassification {
    /// A classification.
    ///
    /// # Errors
    ///
    /// When the confidence is not a number from 0 to 1.
    pub fn new(
        kind: GoalKind,
        confidence: f64,
        reasoning: impl Into<String>,
        is_testable: bool,
        suggested_refinement: Option<String>,
    ) -> Result<GoalClassification, InvalidValue> {
        if !(0.0..=1.0).contains(&confidence) {
            return Err(InvalidValue::new(format!(
                "confidence: expected 0 to 1, found {confidence}"
            )));
        }
        Ok(GoalClassification {
            kind,
            confidence,
            reasoning: reasoning.into(),
            is_testable,
            suggested_refinement,
        })
    }

    /// The kind of work.
    pub fn kind(&self) -> GoalKind {
        self.kind
    }

    /// How sure the model is, 0 to 1.
    pub fn confidence(&self) -> f64 {
        self.confidence
    }

    /// Why.
    pub fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// Whether one could test that the goal is reached.
    pub fn is_testable(&self) -> bool {
        self.is_testable
    }

    /// A clearer way to say the goal.
    pub fn suggested_refinement(&self) -> Option<&str> {
        self.suggested_refinement.as_deref()
    }
}

/// How large a goal is.
#[derive(Clone, Debug, PartialEq)]
pub struct Complexity {
    score: u8,
    reasoning: String,
    estimated_hours: Option<f64>,
}

impl Complexity {
    /// A complexity from a score of 1 to 10.
    ///
    /// # Errors
    ///
    /// When the score is outside, or the hours are not from 0 to [`MAX_HOURS`].
    pub fn new(
        score: u8,
        reasoning: impl Into<String>,
        estimated_hours: Option<f64>,
    ) -> Result<Complexity, InvalidValue> {
        if !(1..=10).contains(&score) {
            return Err(InvalidValue::new(format!(
                "score: expected 1 to 10, found {score}"
            )));
        }
        if let Some(hours) = estimated_hours
            && !(0.0..=MAX_HOURS).contains(&hours)
        {
            return Err(InvalidValue::new(format!(
                "estimated_hours: expected 0 to {MAX_HOURS} hours, found {hours}"
            )));
        }
        Ok(Complexity {
            score,
            reasoning: reasoning.into(),
            estimated_hours,
        })
    }

    /// 1, trivial, to 10.
    pub fn score(&self) -> u8 {
        self.score
    }

    /// Why.
    pub fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// Hours of work, if the model ventured a guess.
    pub fn estimated_hours(&self) -> Option<f64> {
        self.estimated_hours
    }
}

/// A part of a plan that one worker can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub(super) id: String,
    pub(super) description: String,
    pub(super) write_set: Vec<String>,
    pub(super) estimated_difficulty: Difficulty,
    pub(super) estimated_tokens: Option<u64>,
}

impl Slice {
    /// Its name within the plan.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What to do.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The paths it will write, relative to the work directory.
    pub fn write_set(&self) -> &[String] {
        &self.write_set
    }

    /// How hard it is.
    pub fn estimated_difficulty(&self) -> Difficulty {
        self.estimated_difficulty
    }

    /// Tokens that it may take, if the model ventured a guess.
    pub fn estimated_tokens(&self) -> Option<u64> {
        self.estimated_tokens
    }

    /// The model's guess, else [`Difficulty::typical_tokens`].
    pub fn expected_tokens(&self) -> u64 {
        self.estimated_tokens
            .unwrap_or_else(|| self.estimated_difficulty.typical_tokens())
    }
}

/// The parts of a [`Plan`], before they are held against each other.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanParts {
    /// The goal as it was given.
    pub goal_text: String,
    /// The kind of work.
    pub kind: GoalKind,
    /// How sure the model is of the kind, 0 to 1; `None` when it did not say.
    pub confidence: Option<f64>,
    /// Why that kind; empty when it did not say.
    pub reasoning: String,
    /// Whether one could test that the goal is reached; `None` when it did not say.
    pub is_testable: Option<bool>,
    /// A clearer way to say the goal, where it is vague.
    pub suggested_refinement: Option<String>,
    /// How large it is.
    pub complexity: Complexity,
    /// The slices, in the order of the plan; at least one.
    pub slices: Vec<Slice>,
    /// Pairs of indices into the slices: the first must be done before the second.
    pub dependencies: Vec<(usize, usize)>,
    /// How one will know that the goal is reached.
    pub acceptance_criteria: Vec<String>,
    /// Tokens that carrying it out may take, if the model ventured a guess.
    pub estimated_tokens: Option<u64>,
    /// The templates that the plan was asked for with, such as `plan/1`, in order; empty when nobody wrote them down.
    pub templates: Vec<String>,
}

/// A plan that can be carried out: its slices have names of their own, some order satisfies every dependency, and slices
/// that may run at the same time write different files.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(super) parts: PlanParts,
    pub(super) order: Vec<usize>,
    pub(super) waves: Vec<Vec<usize>>,
    pub(super) critical_path: Vec<usize>,
}

impl Plan {
    /// The parts.
    pub fn parts(&self) -> &PlanParts {
        &self.parts
    }

    /// Gives the parts back, for a change.
    pub fn into_parts(self) -> PlanParts {
        self.parts
    }

    /// The slice at that index.
    pub fn slice(&self, at: usize) -> Option<&Slice> {
        self.parts.slices.get(at)
    }

    /// The slices in an order that satisfies every dependency, as close to the plan's own as that allows.
    pub fn in_order(&self) -> impl Iterator<Item = &Slice> {
        self.order.iter().filter_map(|at| self.slice(*at))
    }

    /// The slices by when they can begin, as indices: those of a wave depend only on earlier waves, and every slice stands
    /// in the earliest wave that allows.
    pub fn waves(&self) -> &[Vec<usize>] {
        &self.waves
    }

    /// The wave of a slice, from 0.
    pub fn wave_of(&self, slice: usize) -> Option<usize> {
        self.waves.iter().position(|wave| wave.contains(&slice))
    }

    /// The chain of slices, as indices, that takes the most tokens by [`Slice::expected_tokens`]: however many workers
    /// there are, the plan cannot be done before it.
    pub fn critical_path(&self) -> &[usize] {
        &self.critical_path
    }

    /// Whether the model found the goal too vague to plan with confidence.
    pub fn is_vague(&self) -> bool {
        self.parts.kind == GoalKind::Vague
    }
}

/// What carrying a plan out may take and cost: a rule of thumb, and said to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkEstimate {
    /// The model it is priced for.
    pub model: String,
    /// Tokens of the prompts.
    pub input_tokens: u64,
    /// Tokens of the answers.
    pub output_tokens: u64,
    /// The price; nothing where the model has none per token, or none that is known.
    pub usd: Option<Usd>,
    /// Where the figures come from, in words.
    pub basis: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slice(id: &str, write_set: &[&str]) -> Slice {
        let write_set = write_set.iter().map(|path| path.to_string()).collect();
        Slice::new(id, "do it", write_set, Difficulty::Easy).unwrap()
    }

    fn parts(slices: Vec<Slice>, dependencies: &[(usize, usize)]) -> PlanParts {
        PlanParts {
            goal_text: "goal".to_string(),
            kind: GoalKind::Repair,
            confidence: None,
            reasoning: String::new(),
            is_testable: None,
            suggested_refinement: None,
            complexity: Complexity::new(3, "", None).unwrap(),
            slices,
            dependencies: dependencies.to_vec(),
            acceptance_criteria: vec![],
            estimated_tokens: None,
            templates: vec![],
        }
    }

    fn plan(ids: &[&str], dependencies: &[(usize, usize)]) -> Result<Plan, String> {
        let slices = ids.iter().map(|id| slice(id, &[])).collect();
        Plan::new(parts(slices, dependencies)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_slice_has_a_name_a_task_and_paths_of_its_own_tree() {
        assert!(Slice::new(" ", "do", vec![], Difficulty::Easy).is_err());
        assert!(Slice::new("a", "\n", vec![], Difficulty::Easy).is_err());
        for path in [
            "",
            " ",
            "/etc/passwd",
            "~/x",
            "C:\\x",
            "\\\\host\\x",
            "a/../../b",
            "..",
            "a\nb",
        ] {
            let error = Slice::new("a", "do", vec![path.to_string()], Difficulty::Easy);
            assert!(error.is_err(), "{path:?}");
        }
        for path in ["a", "./a", "src/a.rs", "..a/b..", "docs/", "a b/c"] {
            assert_eq!(slice("a", &[path]).write_set(), [path]);
        }
        assert!(
            slice("a", &[])
                .with_estimated_tokens(Some(MAX_TOKENS))
                .is_ok()
        );
        assert!(
            slice("a", &[])
                .with_estimated_tokens(Some(MAX_TOKENS + 1))
                .is_err()
        );
    }

    #[test]
    fn a_plan_can_be_carried_out() {
        let ordered = plan(&["a", "b", "c"], &[(2, 0), (0, 1)]).unwrap();
        let ids: Vec<&str> = ordered.in_order().map(Slice::id).collect();
        assert_eq!(ids, ["c", "a", "b"]);
        for (ids, dependencies, error) in [
            (
                &["a", "a"][..],
                &[][..],
                "OMK-P008: $.slices[1].id: the id \"a\" is that of $.slices[0] too",
            ),
            (
                &["a"],
                &[(0, 1)],
                "OMK-P009: $.dependencies[0]: there is no slice with index 1; indices go from 0 to 0",
            ),
            (
                &["a"],
                &[(0, 0)],
                "OMK-P010: $.dependencies[0]: \"a\" waits for itself",
            ),
            (
                &["a", "b", "c"],
                &[(1, 2), (2, 1)],
                "OMK-P011: $.dependencies: cycle: b -> c -> b",
            ),
            (&[], &[], "OMK-P007: $.slices: there is no slice"),
        ] {
            assert_eq!(plan(ids, dependencies).unwrap_err(), error);
        }
    }

    #[test]
    fn waves_are_levels_and_the_critical_path_is_the_heaviest_chain() {
        let heavy = |id: &str, tokens| slice(id, &[]).with_estimated_tokens(Some(tokens)).unwrap();
        let slices = vec![
            heavy("a", 5),
            heavy("b", 1),
            heavy("c", 1),
            heavy("d", 100),
            heavy("e", 3),
        ];
        let plan = Plan::new(parts(slices, &[(0, 1), (1, 2), (0, 4), (3, 4)])).unwrap();
        assert_eq!(plan.waves(), [vec![0, 3], vec![1, 4], vec![2]]);
        assert_eq!(plan.critical_path(), [3, 4]);
        assert_eq!((plan.wave_of(2), plan.wave_of(9)), (Some(2), None));
    }

    #[test]
    fn slices_of_one_wave_write_different_files() {
        let together = |a: &[&str], b: &[&str]| {
            Plan::new(parts(vec![slice("a", a), slice("b", b)], &[])).map_err(|e| e.to_string())
        };
        assert_eq!(
            together(&["src/a.rs"], &["README.md", "./src//a.rs"]).unwrap_err(),
            "OMK-P012: $.slices[1].write_set[1]: \"a\" and \"b\" may run at the same time and both write \"./src//a.rs\"; let one depend on the other, or cut otherwise"
        );
        for (a, b) in [
            ("src/", "src/a.rs"),
            ("src/a.rs", "src"),
            ("src\\a.rs", "src/a.rs"),
        ] {
            assert!(together(&[a], &[b]).is_err(), "{a} {b}");
        }
        for (a, b) in [("src/a", "src/ab"), ("a", "b/a"), ("a.rs", "A.rs")] {
            assert!(together(&[a], &[b]).is_ok(), "{a} {b}");
        }
        let after = parts(vec![slice("a", &["x"]), slice("b", &["x"])], &[(0, 1)]);
        assert!(Plan::new(after).is_ok());
        assert!(together(&["x", "x/y"], &["z"]).is_ok());
    }

    #[test]
    fn ranges_are_held() {
        for score in [0, 11, 255] {
            assert!(Complexity::new(score, "", None).is_err());
        }
        for hours in [f64::NAN, f64::INFINITY, -1.0, 100_001.0] {
            assert!(Complexity::new(5, "", Some(hours)).is_err());
        }
        assert_eq!(Complexity::new(10, "much", Some(0.5)).unwrap().score(), 10);
        for confidence in [f64::NAN, -0.1, 1.1] {
            assert!(GoalClassification::new(GoalKind::Vague, confidence, "", false, None).is_err());
        }
        assert_eq!(
            GoalClassification::new(GoalKind::Audit, 1.0, "", true, None)
                .unwrap()
                .kind(),
            GoalKind::Audit
        );
    }

    proptest! {
        #[test]
        fn waves_and_order_satisfy_every_dependency(count in 1_usize..8, pairs in prop::collection::vec((0_usize..8, 0_usize..8), 0..12)) {
            let pairs: Vec<_> = pairs.into_iter().filter(|(a, b)| a != b && *a < count && *b < count).collect();
            let names: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let Ok(plan) = plan(&names, &pairs) else {
                // A circle needs at least a pair there and back.
                prop_assert!(pairs.len() >= 2);
                return Ok(());
            };
            prop_assert_eq!(plan.waves().iter().map(Vec::len).sum::<usize>(), count);
            let place = |slice| plan.order.iter().position(|s| *s == slice).unwrap();
            for (before, after) in &pairs {
                prop_assert!(place(*before) < place(*after));
                prop_assert!(plan.wave_of(*before) < plan.wave_of(*after));
            }
            // The earliest wave that allows: whoever is not in the first one waits for one of the wave before.
            for slice in 0..count {
                let wave = plan.wave_of(slice).unwrap();
                let waits = pairs.iter().any(|(b, a)| *a == slice && plan.wave_of(*b) == Some(wave.wrapping_sub(1)));
                prop_assert!(wave == 0 || waits);
            }
            let path = plan.critical_path();
            prop_assert!(path.windows(2).all(|pair| pairs.contains(&(pair[0], pair[1]))));
            prop_assert_eq!(path.len(), plan.waves().len());
        }
    }
}
