//! What a session of agents may cost, before anyone has seen a prompt.
//!
//! A rule of thumb for planning, not a count: about 1000 tokens a minute and worker, a third more for each iteration over
//! the work, three tokens read for each one written. Its answer is a figure to budget by. All arithmetic is in integers
//! that stop at their end, so any input whatever gives a finite answer that never falls when an input rises; it refuses
//! nothing, reads nothing and asks nobody.

use serde::Deserialize;
use serde::Serialize;

use crate::catalog::money::Rate;
use crate::catalog::money::Usd;
use crate::runtime::words::words;

/// Tokens that one worker moves in a minute, read and written together.
const TOKENS_PER_MINUTE: u128 = 1000;
/// An estimate below this many tokens would be noise: saying hello to an agent costs as much.
const MIN_TOKENS: u128 = 500;

words! {
    /// How expensive the models of a session are. The names stand for a class of models, not for one.
    PricingTier, "tier" {
        /// 2 USD per 1M output tokens.
        Budget = "budget",
        /// 8 USD per 1M output tokens.
        Standard = "standard",
        /// 24 USD per 1M output tokens.
        Premium = "premium",
    }
}

impl Default for PricingTier {
    /// The middle one, which an unknown role is priced by too.
    fn default() -> PricingTier {
        PricingTier::Standard
    }
}

impl PricingTier {
    /// What a million output tokens cost.
    pub const fn output_rate(self) -> Rate {
        Rate::from_usd(match self {
            PricingTier::Budget => 2,
            PricingTier::Standard => 8,
            PricingTier::Premium => 24,
        })
    }

    /// What a million input tokens cost: a quarter of the output.
    pub const fn input_rate(self) -> Rate {
        self.output_rate().quarter()
    }
}

/// Roles of a team and what their work asks for: judgement is dear, routine is cheap.
///
/// Part of a role's name decides: `lead-architect` and `architect 2` are architects. The first entry that fits is taken.
const ROLES: [(&str, PricingTier); 18] = [
    ("architect", PricingTier::Premium),
    ("planner", PricingTier::Premium),
    ("review", PricingTier::Premium),
    ("security", PricingTier::Premium),
    ("critic", PricingTier::Premium),
    ("analyst", PricingTier::Premium),
    ("writer", PricingTier::Budget),
    ("scribe", PricingTier::Budget),
    ("explore", PricingTier::Budget),
    ("research", PricingTier::Budget),
    ("summar", PricingTier::Budget),
    ("executor", PricingTier::Standard),
    ("develop", PricingTier::Standard),
    ("engineer", PricingTier::Standard),
    ("coder", PricingTier::Standard),
    ("debug", PricingTier::Standard),
    ("design", PricingTier::Standard),
    ("test", PricingTier::Standard),
];

/// The tier of a role by the table above, or nothing for a role that is not in it.
///
/// [`estimate_team_cost`] takes an unknown role as [`PricingTier::Standard`]; a caller that wants to say so asks here.
pub fn tier_for_role(role: &str) -> Option<PricingTier> {
    let role = role.to_lowercase();
    ROLES
        .iter()
        .find(|(part, _)| role.contains(part))
        .map(|(_, tier)| *tier)
}

/// An estimate. The default is one of nothing: 0 tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostEstimate {
    input_tokens: u64,
    output_tokens: u64,
    tier: PricingTier,
}

impl CostEstimate {
    /// Tokens read.
    pub fn input_tokens(&self) -> u64 {
        self.input_tokens
    }

    /// Tokens written.
    pub fn output_tokens(&self) -> u64 {
        self.output_tokens
    }

    /// Both together, at least 500. They were cut from one `u64`, so the sum is one.
    pub fn total_tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// The class of models it is for.
    pub fn tier(&self) -> PricingTier {
        self.tier
    }

    /// The same tokens at another tier.
    pub fn at(self, tier: PricingTier) -> CostEstimate {
        CostEstimate { tier, ..self }
    }

    /// What they cost, exact.
    pub fn usd(&self) -> Usd {
        self.tier.input_rate().times(self.input_tokens)
            + self.tier.output_rate().times(self.output_tokens)
    }

    /// The same as the nearest double; finite and not negative.
    pub fn usd_f64(&self) -> f64 {
        self.usd().as_f64()
    }
}

/// What `worker_count` agents cost that work for `duration_secs` seconds and go over the work `iterations` times more.
///
/// Tokens: seconds / 60 x 1000 x workers x (1 + 0.3 x iterations), rounded down, at least 500 and at most `u64::MAX`; a
/// quarter of them, rounded up, is output. No IO, no panic, and no overflow on any input.
pub fn estimate_cost(
    duration_secs: u64,
    worker_count: usize,
    iterations: u64,
    tier: PricingTier,
) -> CostEstimate {
    let workers = u128::try_from(worker_count).unwrap_or(u128::MAX);
    // Tenths, so that 0.3 is a whole number. Saturation keeps the order: nothing that stopped at the end comes back.
    let tenths = 10 + 3 * u128::from(iterations);
    let worked = u128::from(duration_secs)
        .saturating_mul(workers)
        .saturating_mul(tenths);
    let tokens = worked.saturating_mul(TOKENS_PER_MINUTE) / (60 * 10);
    let total = u64::try_from(tokens.max(MIN_TOKENS)).unwrap_or(u64::MAX);
    let output_tokens = total.div_ceil(4);
    CostEstimate {
        input_tokens: total - output_tokens,
        output_tokens,
        tier,
    }
}

/// A team of agents in one role, with one round of rework. The role sets the tier, see [`tier_for_role`]; an unknown one
/// counts as standard.
pub fn estimate_team_cost(duration_secs: u64, worker_count: usize, role: &str) -> CostEstimate {
    let tier = tier_for_role(role).unwrap_or(PricingTier::Standard);
    estimate_cost(duration_secs, worker_count, 1, tier)
}

/// One agent that takes a task through some phases by itself, at the standard tier; each phase goes over the work again.
pub fn estimate_autopilot_cost(duration_secs: u64, phases: u64) -> CostEstimate {
    estimate_cost(duration_secs, 1, phases, PricingTier::Standard)
}

/// One agent in a loop until all stories are done, at the standard tier; each iteration and each story goes over the work
/// again.
pub fn estimate_ralph_cost(duration_secs: u64, iterations: u64, stories: u64) -> CostEstimate {
    estimate_cost(
        duration_secs,
        1,
        iterations.saturating_add(stories),
        PricingTier::Standard,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(estimate: CostEstimate, input: u64, output: u64, usd: &str) {
        assert_eq!(
            (estimate.input_tokens(), estimate.output_tokens()),
            (input, output)
        );
        assert_eq!(estimate.usd().exact_decimal(), usd);
    }

    #[test]
    fn a_minute_of_one_worker() {
        // 1000 tokens: 750 at 0.50, 2, 6 and 250 at 2, 8, 24 USD per 1M.
        check(
            estimate_cost(60, 1, 0, PricingTier::Budget),
            750,
            250,
            "0.000875",
        );
        check(
            estimate_cost(60, 1, 0, PricingTier::Standard),
            750,
            250,
            "0.0035",
        );
        check(
            estimate_cost(60, 1, 0, PricingTier::Premium),
            750,
            250,
            "0.0105",
        );
    }

    #[test]
    fn iterations_add_three_tenths_each() {
        // 1000 * 1.3 = 1300; 1000 * 4 = 4000.
        check(
            estimate_cost(60, 1, 1, PricingTier::Standard),
            975,
            325,
            "0.00455",
        );
        check(
            estimate_cost(60, 1, 10, PricingTier::Standard),
            3000,
            1000,
            "0.014",
        );
    }

    #[test]
    fn there_is_a_floor() {
        check(
            estimate_cost(0, 0, 0, PricingTier::Standard),
            375,
            125,
            "0.00175",
        );
        check(
            estimate_cost(30, 1, 0, PricingTier::Standard),
            375,
            125,
            "0.00175",
        );
        // 31 s: 516 tokens and two thirds, rounded down; 129 of them output.
        check(
            estimate_cost(31, 1, 0, PricingTier::Standard),
            387,
            129,
            "0.001806",
        );
    }

    #[test]
    fn a_team_by_role() {
        // 30 min, 4 workers: 30000 * 4 * 1.3 = 156000; 117000 * 6 + 39000 * 24 = 1.638 USD.
        check(
            estimate_team_cost(1800, 4, "architect"),
            117_000,
            39_000,
            "1.638",
        );
        check(
            estimate_team_cost(1800, 4, "Lead-Architect"),
            117_000,
            39_000,
            "1.638",
        );
        check(
            estimate_team_cost(1800, 4, "executor"),
            117_000,
            39_000,
            "0.546",
        );
        check(
            estimate_team_cost(1800, 4, "writer"),
            117_000,
            39_000,
            "0.1365",
        );
        check(
            estimate_team_cost(1800, 4, "juggler"),
            117_000,
            39_000,
            "0.546",
        );
        assert_eq!(tier_for_role("juggler"), None);
        for (role, tier) in [
            ("security-reviewer", PricingTier::Premium),
            ("planner", PricingTier::Premium),
            ("test-engineer", PricingTier::Standard),
            ("developer", PricingTier::Standard),
            ("explorer", PricingTier::Budget),
            ("SCRIBE", PricingTier::Budget),
        ] {
            assert_eq!(tier_for_role(role), Some(tier), "{role}");
        }
    }

    #[test]
    fn autopilot_and_ralph() {
        // 5 min, 6 phases: 5000 * 2.8 = 14000; 10500 * 2 + 3500 * 8 = 0.049 USD.
        check(estimate_autopilot_cost(300, 6), 10_500, 3_500, "0.049");
        // 10 min, 3 iterations and 4 stories: 10000 * 3.1 = 31000; 23250 * 2 + 7750 * 8 = 0.1085 USD.
        check(estimate_ralph_cost(600, 3, 4), 23_250, 7_750, "0.1085");
        assert_eq!(
            estimate_ralph_cost(1, u64::MAX, u64::MAX),
            estimate_ralph_cost(1, u64::MAX, 0)
        );
    }

    #[test]
    fn tiers_have_names_and_rates() {
        for (tier, name, output, input) in [
            (PricingTier::Budget, "budget", "2", "0.5"),
            (PricingTier::Standard, "standard", "8", "2"),
            (PricingTier::Premium, "premium", "24", "6"),
        ] {
            assert_eq!(tier.to_string(), name);
            assert_eq!(name.parse(), Ok(tier));
            assert_eq!(tier.output_rate().exact_decimal(), output);
            assert_eq!(tier.input_rate().exact_decimal(), input);
        }
        assert!("Premium".parse::<PricingTier>().is_err());
    }

    fn any_u64() -> impl Strategy<Value = u64> {
        // Uniform numbers are nearly all enormous; people's are small and bugs sit at the ends.
        prop_oneof![
            any::<u64>(),
            0..10_000_u64,
            Just(u64::MAX),
            Just(0),
            (0..64_u32).prop_map(|b| 1 << b)
        ]
    }

    fn any_usize() -> impl Strategy<Value = usize> {
        prop_oneof![any::<usize>(), 0..100_usize, Just(usize::MAX), Just(0)]
    }

    fn any_tier() -> impl Strategy<Value = PricingTier> {
        prop::sample::select(PricingTier::ALL.to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_input_gives_a_finite_estimate_over_the_floor(secs in any_u64(), workers in any_usize(), iterations in any_u64(), tier in any_tier()) {
            let estimate = estimate_cost(secs, workers, iterations, tier);
            prop_assert!(estimate.total_tokens() >= 500);
            prop_assert!(estimate.usd_f64().is_finite() && estimate.usd_f64() > 0.0);
            prop_assert!(estimate.output_tokens() <= estimate.input_tokens());
            // Three to one, to the token.
            prop_assert!(estimate.output_tokens() - estimate.input_tokens() / 3 <= 1);
        }

        #[test]
        fn more_never_costs_less(secs in any_u64(), workers in any_usize(), iterations in any_u64(), tier in any_tier(), more_secs in any_u64(), more_workers in any_usize(), more_iterations in any_u64()) {
            let base = estimate_cost(secs, workers, iterations, tier);
            for more in [
                estimate_cost(secs.saturating_add(more_secs), workers, iterations, tier),
                estimate_cost(secs, workers.saturating_add(more_workers), iterations, tier),
                estimate_cost(secs, workers, iterations.saturating_add(more_iterations), tier),
                estimate_cost(secs, workers, iterations, PricingTier::Premium),
            ] {
                prop_assert!(more.input_tokens() >= base.input_tokens());
                prop_assert!(more.output_tokens() >= base.output_tokens());
                prop_assert!(more.usd() >= base.usd());
            }
        }

        #[test]
        fn the_shortcuts_take_anything(secs in any_u64(), workers in any_usize(), a in any_u64(), b in any_u64(), role in ".{0,12}") {
            for estimate in [estimate_team_cost(secs, workers, &role), estimate_autopilot_cost(secs, a), estimate_ralph_cost(secs, a, b)] {
                prop_assert!(estimate.usd_f64().is_finite());
            }
        }
    }
}
