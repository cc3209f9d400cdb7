//! Which mode holds for whom: globally, per tenant, per application, each for a share of the subjects. No request data
//! beyond tenant, application and one stable number; no chance, so that the same subject is always in or always out.

use crate::domain::policy::decision::Mode;
use crate::domain::policy::scope::SUPER_TENANT;
use crate::domain::policy::scope::Scope;
use crate::domain::policy::scope::Specificity;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;

/// How many overrides one rollout may have.
pub const OVERRIDES_MAX: usize = 1024;

/// The modes in force.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "RawRollout")]
pub struct Rollout {
    general: Share,
    overrides: Vec<(Scope, Share)>,
    index: Index,
}

/// Where the overrides of an application and of a whole tenant are, so that a request costs one look-up however many
/// there are.
#[derive(Clone, Debug, Default, PartialEq)]
struct Index {
    applications: HashMap<String, Vec<usize>>,
    /// By the domain in lower case.
    tenants: HashMap<String, usize>,
}

/// Why a rollout is not one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RolloutError {
    /// More than all.
    #[error("percentage `{0}` is out of range, expected 0 to 100")]
    Percentage(u8),
    /// For nobody in particular.
    #[error("override {0} names neither tenant nor application; set one, or change `default`")]
    Everyone(usize),
    /// For nobody: an empty name.
    #[error(
        "override {0} has an empty `{1}`, so that it is for nobody; name one, or leave the key out"
    )]
    Nobody(usize, &'static str),
    /// Said twice.
    #[error("{0} is overridden twice; keep one of the two")]
    Twice(String),
    /// Too long.
    #[error("{0} overrides, expected at most {OVERRIDES_MAX}")]
    TooMany(usize),
}

/// A mode for a share of the subjects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    mode: Mode,
    percentage: u8,
    mark: Option<StageMark>,
}

/// Names one stage of a rollout plan as it was approved: another scope, mode, percentage or approval is another stage.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StageMark(pub u64);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRollout {
    #[serde(default)]
    default: Mode,
    #[serde(default = "everybody")]
    percentage: u8,
    #[serde(default)]
    overrides: Vec<RawOverride>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOverride {
    tenant: Option<String>,
    application: Option<String>,
    mode: Mode,
    #[serde(default = "everybody")]
    percentage: u8,
}

impl Rollout {
    /// `mode` for everybody.
    pub fn of(mode: Mode) -> Self {
        let general = Share {
            mode,
            percentage: 100,
            mark: None,
        };
        Self::new(general, Vec::new())
    }

    /// `general`, and exceptions whose scopes differ.
    pub fn new(general: Share, overrides: Vec<(Scope, Share)>) -> Self {
        let mut index = Index::default();
        for (place, (scope, _)) in overrides.iter().enumerate() {
            match (scope.application(), scope.tenant()) {
                (Some(application), _) => index
                    .applications
                    .entry(application.to_owned())
                    .or_default()
                    .push(place),
                (None, Some(tenant)) => {
                    index.tenants.insert(tenant.to_ascii_lowercase(), place);
                }
                (None, None) => {}
            }
        }
        Self {
            general,
            overrides,
            index,
        }
    }

    /// The mode for whom no override is made.
    pub fn general(&self) -> Mode {
        self.general.mode
    }

    /// In a few words: mode and percentage for everybody, and how many exceptions there are.
    pub fn summary(&self) -> String {
        let Share {
            mode, percentage, ..
        } = self.general;
        match self.overrides.len() {
            0 => format!("{mode} {percentage} %"),
            1 => format!("{mode} {percentage} %, 1 exception"),
            many => format!("{mode} {percentage} %, {many} exceptions"),
        }
    }

    /// How many overrides there are.
    pub fn exceptions(&self) -> usize {
        self.overrides.len()
    }

    /// The mode for one subject. `application` is the client id; `stable` is a hash of the subject, or of the address
    /// where no subject is known yet, that is uniform and the same every time. The most specific override holds; those
    /// outside its percentage get the next weaker mode: `monitor` below `enforce` and `advise`, `off` below `monitor`.
    /// Raising a percentage keeps everybody in who was in.
    pub fn mode_for(&self, tenant: &str, application: &str, stable: u64) -> Mode {
        self.share(tenant, application).mode_of(stable)
    }

    /// What holds for an application in a tenant: the most specific override, else what holds generally.
    pub fn share(&self, tenant: &str, application: &str) -> Share {
        let named = self.index.applications.get(application).into_iter();
        let of_application = named
            .flatten()
            .filter_map(|place| self.overrides.get(*place))
            .filter_map(|(scope, share)| Some((scope.covers(tenant, application)?, *share)))
            .max_by_key(|(specificity, _): &(Specificity, Share)| *specificity);
        if let Some((_, share)) = of_application {
            return share;
        }
        if self.index.tenants.is_empty() {
            return self.general;
        }
        let tenant = match tenant {
            "" => Cow::Borrowed(SUPER_TENANT),
            tenant if tenant.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Cow::Owned(tenant.to_ascii_lowercase())
            }
            tenant => Cow::Borrowed(tenant),
        };
        let of_tenant = self.index.tenants.get(tenant.as_ref());
        of_tenant
            .and_then(|place| self.overrides.get(*place))
            .map_or(self.general, |(_, share)| *share)
    }

    /// Whether `enforce` holds for anybody who uses `application`, in `tenant` or, without one, in any tenant.
    pub fn enforces(&self, tenant: Option<&str>, application: &str) -> bool {
        let tenants = self
            .overrides
            .iter()
            .filter_map(|(scope, _)| scope.tenant());
        // Without a tenant: wherever no override names one, and wherever one does.
        let unnamed = "\u{0}";
        let tried: Vec<&str> = match tenant {
            Some(tenant) => vec![tenant],
            None => tenants.chain([unnamed, ""]).collect(),
        };
        tried
            .into_iter()
            .any(|tenant| self.share(tenant, application).strongest() == Mode::Enforce)
    }

    /// The strongest mode that anybody gets: whether there is anything to enforce at all.
    pub fn strongest(&self) -> Mode {
        let shares = self
            .overrides
            .iter()
            .map(|(_, share)| share)
            .chain([&self.general]);
        shares
            .map(|share| share.strongest())
            .max()
            .unwrap_or_default()
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self::of(Mode::default())
    }
}

impl Share {
    /// `mode` for `percentage` of the subjects.
    ///
    /// # Errors
    /// If that is more than all.
    pub fn new(mode: Mode, percentage: u8) -> Result<Self, RolloutError> {
        if percentage > 100 {
            return Err(RolloutError::Percentage(percentage));
        }
        Ok(Self {
            mode,
            percentage,
            mark: None,
        })
    }

    /// The same, as a stage of a plan.
    pub fn marked(self, mark: StageMark) -> Self {
        Self {
            mark: Some(mark),
            ..self
        }
    }

    /// The stage, where it is one of a plan.
    pub fn mark(self) -> Option<StageMark> {
        self.mark
    }

    /// The mode for one subject; see [`Rollout::mode_for`].
    pub fn mode_of(self, stable: u64) -> Mode {
        if stable % 100 < u64::from(self.percentage) {
            self.mode
        } else {
            next_weaker(self.mode)
        }
    }

    /// The strongest mode that anybody gets.
    pub fn strongest(self) -> Mode {
        if self.percentage > 0 {
            self.mode
        } else {
            next_weaker(self.mode)
        }
    }

    /// The weakest mode that anybody gets.
    pub fn weakest(self) -> Mode {
        if self.percentage < 100 {
            next_weaker(self.mode)
        } else {
            self.mode
        }
    }

    /// Whether nobody gets a stronger mode by `self` than by `other`, and somebody a weaker one.
    pub fn is_weaker_than(self, other: Self) -> bool {
        let pairs = || (0..100).map(|stable| (self.mode_of(stable), other.mode_of(stable)));
        pairs().all(|(own, other)| own <= other) && pairs().any(|(own, other)| own < other)
    }

    /// Whether everybody gets the same mode by both.
    pub fn is_like(self, other: Self) -> bool {
        (0..100).all(|stable| self.mode_of(stable) == other.mode_of(stable))
    }
}

impl TryFrom<RawRollout> for Rollout {
    type Error = RolloutError;

    fn try_from(raw: RawRollout) -> Result<Self, RolloutError> {
        if raw.overrides.len() > OVERRIDES_MAX {
            return Err(RolloutError::TooMany(raw.overrides.len()));
        }
        let general = Share::new(raw.default, raw.percentage)?;
        let mut overrides: Vec<(Scope, Share)> = Vec::with_capacity(raw.overrides.len());
        for (index, one) in raw.overrides.into_iter().enumerate() {
            for (key, name) in [("tenant", &one.tenant), ("application", &one.application)] {
                if name.as_deref() == Some("") {
                    return Err(RolloutError::Nobody(index + 1, key));
                }
            }
            let scope =
                Scope::new(one.tenant, one.application).ok_or(RolloutError::Everyone(index + 1))?;
            if overrides.iter().any(|(other, _)| other.is_same(&scope)) {
                return Err(RolloutError::Twice(scope.to_string()));
            }
            overrides.push((scope, Share::new(one.mode, one.percentage)?));
        }
        Ok(Self::new(general, overrides))
    }
}

fn everybody() -> u8 {
    100
}

/// Advice is not a step on the way to enforcement: it already changes what WSO2 and the APIs see.
fn next_weaker(mode: Mode) -> Mode {
    match mode {
        Mode::Enforce | Mode::Advise => Mode::Monitor,
        Mode::Monitor | Mode::Off => Mode::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rollout(text: &str) -> Result<Rollout, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn an_empty_section_monitors_everybody() {
        assert_eq!(rollout("").unwrap(), Rollout::default());
        assert_eq!(Rollout::default().mode_for("t", "a", 99), Mode::Monitor);
        assert_eq!(Rollout::default().strongest(), Mode::Monitor);
    }

    #[test]
    fn the_more_specific_override_holds_in_whatever_order() {
        let rollout = rollout(
            r#"
            default = "off"
            overrides = [
                { tenant = "t", application = "a", mode = "enforce" },
                { application = "a", mode = "advise" },
                { tenant = "t", mode = "monitor" },
            ]"#,
        )
        .unwrap();
        assert_eq!(rollout.mode_for("t", "a", 0), Mode::Enforce);
        assert_eq!(rollout.mode_for("u", "a", 0), Mode::Advise);
        assert_eq!(rollout.mode_for("t", "b", 0), Mode::Monitor);
        assert_eq!(rollout.mode_for("u", "b", 0), Mode::Off);
        assert_eq!(rollout.strongest(), Mode::Enforce);
    }

    #[test]
    fn a_tenant_is_found_however_it_is_spelt() {
        let rollout = rollout(
            "overrides = [{ tenant = \"A.Com\", mode = \"enforce\" }, { tenant = \"carbon.super\", mode = \"off\" }]",
        )
        .unwrap();
        for tenant in ["a.com", "A.com", "A.COM"] {
            assert_eq!(rollout.mode_for(tenant, "x", 0), Mode::Enforce);
        }
        assert_eq!(rollout.mode_for("", "x", 0), Mode::Off);
        assert_eq!(rollout.mode_for("b.com", "x", 0), Mode::Monitor);
    }

    #[test]
    fn shares_are_compared_by_what_everybody_gets() {
        let share = |mode, percentage| Share::new(mode, percentage).unwrap();
        assert!(share(Mode::Enforce, 10).is_weaker_than(share(Mode::Enforce, 50)));
        assert!(share(Mode::Advise, 100).is_weaker_than(share(Mode::Enforce, 100)));
        assert!(share(Mode::Monitor, 100).is_weaker_than(share(Mode::Enforce, 1)));
        // Some get a stronger mode, others a weaker one: that is no way back.
        assert!(!share(Mode::Advise, 100).is_weaker_than(share(Mode::Enforce, 50)));
        assert!(!share(Mode::Enforce, 50).is_weaker_than(share(Mode::Enforce, 50)));
        assert!(share(Mode::Enforce, 0).is_like(share(Mode::Monitor, 100)));
    }

    #[test]
    fn who_is_outside_the_percentage_gets_the_next_weaker_mode() {
        let rollout = rollout("default = \"enforce\"\npercentage = 10").unwrap();
        assert_eq!(rollout.mode_for("t", "a", 9), Mode::Enforce);
        assert_eq!(rollout.mode_for("t", "a", 10), Mode::Monitor);
        assert_eq!(rollout.mode_for("t", "a", u64::MAX), Mode::Monitor);
    }

    #[test]
    fn nobody_is_enforced_at_zero_percent() {
        assert_eq!(
            rollout("default = \"enforce\"\npercentage = 0")
                .unwrap()
                .strongest(),
            Mode::Monitor
        );
    }

    #[test]
    fn mistakes_are_named() {
        let message = |text: &str| rollout(text).unwrap_err();
        assert!(message("percentage = 101").contains("expected 0 to 100"));
        assert!(
            message("overrides = [{ mode = \"off\" }]").contains("neither tenant nor application")
        );
        assert!(
            message("overrides = [{ mode = \"off\", tenant = \"t\", percentage = 200 }]")
                .contains("`200`")
        );
        for key in ["tenant", "application"] {
            let empty = format!("overrides = [{{ mode = \"off\", {key} = \"\" }}]");
            assert!(message(&empty).contains(&format!("override 1 has an empty `{key}`")));
        }
        assert!(message("modus = \"off\"").contains("unknown field `modus`"));
        assert!(message("default = \"on\"").contains("unknown variant `on`"));
        let twice = "overrides = [{ mode = \"off\", tenant = \"t\" }, { mode = \"enforce\", tenant = \"T\" }]";
        assert!(message(twice).contains("tenant `T` is overridden twice"));
        let many = format!(
            "overrides = [{}]",
            "{ mode = \"off\", tenant = \"t\" },".repeat(OVERRIDES_MAX + 1)
        );
        assert!(message(&many).contains("1025 overrides"));
    }

    proptest! {
        #[test]
        fn a_larger_share_keeps_who_was_in(small in 0u8..=100, more in 0u8..=100, stable: u64) {
            let share = |percentage| Share::new(Mode::Enforce, percentage).unwrap();
            let large = small.saturating_add(more).min(100);
            if share(small).mode_of(stable) == Mode::Enforce {
                prop_assert_eq!(share(large).mode_of(stable), Mode::Enforce);
            }
        }
    }

    #[test]
    fn the_share_is_as_large_as_it_says() {
        let share = Share::new(Mode::Enforce, 25).unwrap();
        let enforced = (0..10_000u64)
            .filter(|n| share.mode_of(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) == Mode::Enforce)
            .count();
        assert!((2_300..2_700).contains(&enforced), "{enforced}");
    }
}
