//! What stands beside the policy when a verdict is given: how the request goes on with what was decided before, and what is
//! owed. From it and the policy's word follows the verdict that counts. Recorded with it, so that the verdict can be given
//! again from the record alone.

use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Matched;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::RiskLevel;

/// What is known beside the policy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// The request returns into a login that was decided before.
    pub continues: bool,
    /// It goes on with a login that was withheld.
    pub barred: bool,
    /// A stronger factor was demanded of the login that is presented, and not given yet.
    pub outstanding: bool,
    /// It turns in a code or token.
    pub redeems: bool,
    /// The score is that of the decision under which the presented code, token or session was given.
    pub inherited: bool,
    /// Whether a demand that is kept elsewhere binds it.
    pub bound: Bound,
    /// A stronger factor was demanded of who asked for the approval that it gives.
    pub approval: bool,
    /// What it becomes where it sends what enrols a second factor, and may not.
    pub enrols: Option<Verdict>,
    /// An analyst has lifted the review.
    pub released: bool,
}

/// Whether a demand of the browser, the source or the user binds a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Bound {
    /// At every level.
    Always,
    /// Nothing binds it.
    #[default]
    No,
    /// It comes from the user's own device, which is not bound at a low level.
    UnlessLow,
}

/// What follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settled {
    /// The verdict that counts.
    pub verdict: Verdict,
    /// Whether a demand has had its effect.
    pub owes: bool,
    /// Whether enrolling a second factor was refused.
    pub may_not_enrol: bool,
}

/// The codes in records.
const CODES: [&str; 6] = [
    "continues",
    "barred",
    "outstanding",
    "approval",
    "bound",
    "bound_unless_low",
];
/// The codes of what a request becomes that may not enrol.
const ENROLS: [(&str, Verdict); 2] = [
    ("enrols_review", Verdict::Review),
    ("enrols_block", Verdict::Block),
];
/// The code of a review that was lifted.
const RELEASED: &str = "released";

impl Standing {
    /// Whether a demand binds the request, given its level.
    pub fn is_bound(&self, level: Option<RiskLevel>) -> bool {
        match self.bound {
            Bound::Always => true,
            Bound::No => false,
            Bound::UnlessLow => level != Some(RiskLevel::Low),
        }
    }

    /// Whether policy is told that a stronger factor is owed (`request.demanded`).
    pub fn is_demanded(&self, level: Option<RiskLevel>, mode: Mode) -> bool {
        // Nothing is demanded, and nothing owed, where nothing is enforced.
        self.outstanding || (mode == Mode::Enforce && self.is_bound(level))
    }

    /// The verdict that counts where policy has said `decision`.
    pub fn settle(&self, decision: &Decision, mode: Mode) -> Settled {
        let enforces = mode == Mode::Enforce;
        let by_rule = matches!(decision.matched, Matched::Rule { .. });
        let mut verdict = decision.verdict;
        if self.continues {
            // Decided when the login began: it is not challenged again, and a demand stays until it is met.
            verdict = if self.barred {
                Verdict::Block
            } else if self.outstanding {
                Verdict::StepUp
            } else {
                Verdict::Allow
            };
        } else if self.barred {
            verdict = Verdict::Block;
        } else if self.redeems && self.outstanding {
            // The answer has to prove the factor that was demanded for it.
            verdict = verdict.max(Verdict::StepUp);
        } else if self.inherited && !by_rule {
            // The front channel has decided; the app server that redeems the code is not judged again.
            verdict = Verdict::Allow;
        }
        // Of the browser that approves is demanded what was demanded of who asked for it.
        let owes = enforces && (self.is_bound(decision.level) || self.approval);
        if owes {
            verdict = verdict.max(Verdict::StepUp);
        }
        let refused = self
            .enrols
            .filter(|_| enforces && (verdict == Verdict::StepUp || self.outstanding));
        if let Some(refused) = refused {
            verdict = verdict.max(refused);
        }
        if self.released && verdict == Verdict::Review {
            // A factor that is owed is still owed.
            verdict = if self.outstanding || self.is_bound(decision.level) {
                Verdict::StepUp
            } else {
                Verdict::Allow
            };
        }
        Settled {
            verdict,
            owes,
            may_not_enrol: refused.is_some(),
        }
    }

    /// The codes for a record. What the record says elsewhere (the door, where the score is from) is not among them.
    pub fn codes(&self) -> Vec<&'static str> {
        let flags = [
            self.continues,
            self.barred,
            self.outstanding,
            self.approval,
            self.bound == Bound::Always,
            self.bound == Bound::UnlessLow,
        ];
        let flags = CODES.into_iter().zip(flags);
        let flags = flags.filter_map(|(code, is_set)| is_set.then_some(code));
        let enrols = ENROLS.into_iter();
        let enrols = enrols.filter(|(_, verdict)| self.enrols == Some(*verdict));
        flags
            .chain(enrols.map(|(code, _)| code))
            .chain(self.released.then_some(RELEASED))
            .collect()
    }

    /// The standing behind the codes of a record; `None` where one is not known to this build.
    pub fn of_codes<'c>(codes: impl IntoIterator<Item = &'c str>) -> Option<Self> {
        let mut standing = Self::default();
        for code in codes {
            match code {
                "continues" => standing.continues = true,
                "barred" => standing.barred = true,
                "outstanding" => standing.outstanding = true,
                "approval" => standing.approval = true,
                "bound" => standing.bound = Bound::Always,
                "bound_unless_low" => standing.bound = Bound::UnlessLow,
                RELEASED => standing.released = true,
                other => {
                    let known = ENROLS.into_iter().find(|(code, _)| *code == other);
                    standing.enrols = Some(known?.1);
                }
            }
        }
        Some(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn decision(verdict: Verdict, level: Option<RiskLevel>, by_rule: bool) -> Decision {
        Decision {
            verdict,
            reasons: Vec::new(),
            level,
            matched: match (by_rule, level) {
                (false, Some(level)) => Matched::Default(level),
                _ => Matched::Rule {
                    name: Arc::from("r"),
                },
            },
            policy_version: Arc::from("v"),
            adjusted: None,
            skipped: Vec::new(),
        }
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        let flags = any::<[bool; 5]>();
        let bound = prop_oneof![Just(Bound::No), Just(Bound::Always), Just(Bound::UnlessLow)];
        let enrols = prop_oneof![
            Just(None),
            Just(Some(Verdict::Review)),
            Just(Some(Verdict::Block))
        ];
        (flags, bound, enrols).prop_map(|(flags, bound, enrols)| Standing {
            continues: flags[0],
            barred: flags[1],
            outstanding: flags[2],
            approval: flags[3],
            released: flags[4],
            bound,
            enrols,
            ..Standing::default()
        })
    }

    proptest! {
        #[test]
        fn codes_say_it_all(standing in any_standing()) {
            let codes = standing.codes();
            prop_assert_eq!(Standing::of_codes(codes), Some(standing));
        }

        #[test]
        fn what_is_owed_is_never_waived(standing in any_standing(), level in 0_usize..3) {
            let level = [RiskLevel::Low, RiskLevel::Medium, RiskLevel::High][level];
            for verdict in Verdict::ALL {
                let settled = standing.settle(&decision(verdict, Some(level), false), Mode::Enforce);
                if standing.is_bound(Some(level)) {
                    prop_assert!(settled.verdict >= Verdict::StepUp);
                }
            }
        }
    }

    #[test]
    fn nothing_beside_it_leaves_the_policys_word() {
        for verdict in Verdict::ALL {
            for mode in Mode::ALL {
                let said = decision(verdict, Some(RiskLevel::High), false);
                assert_eq!(Standing::default().settle(&said, mode).verdict, verdict);
            }
        }
    }

    #[test]
    fn a_redeemed_code_is_judged_again_by_rules_alone() {
        let standing = Standing {
            redeems: true,
            inherited: true,
            ..Standing::default()
        };
        let of = |by_rule| {
            let said = decision(Verdict::Block, Some(RiskLevel::High), by_rule);
            standing.settle(&said, Mode::Enforce).verdict
        };
        assert_eq!((of(false), of(true)), (Verdict::Allow, Verdict::Block));
    }

    #[test]
    fn demands_count_where_they_are_enforced() {
        let standing = Standing {
            bound: Bound::UnlessLow,
            ..Standing::default()
        };
        let of = |level, mode| {
            let said = decision(Verdict::Allow, Some(level), false);
            standing.settle(&said, mode).verdict
        };
        assert_eq!(of(RiskLevel::Medium, Mode::Enforce), Verdict::StepUp);
        assert_eq!(of(RiskLevel::Low, Mode::Enforce), Verdict::Allow);
        assert_eq!(of(RiskLevel::Medium, Mode::Monitor), Verdict::Allow);
    }

    #[test]
    fn a_code_of_a_later_version_is_not_guessed() {
        assert_eq!(Standing::of_codes(["continues", "levitates"]), None);
    }
}
