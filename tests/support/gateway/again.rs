//! Every decision that a test causes is given again from its record, and must come out the same: the record holds what the
//! verdict followed from, and `riskgate replay` decides as the gateway does.

use riskgate::app::explain::resolver;
use riskgate::config::Config;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::policy::PolicySet;
use riskgate::domain::recorded::Case;
use riskgate::domain::recorded::Gap;
use riskgate::domain::recorded::names::Names;
use std::path::Path;
use std::sync::Mutex;

/// The policies that were in force.
#[derive(Debug, Default)]
pub struct Again(Mutex<Vec<(PolicySet, Option<Names>)>>);

impl Again {
    /// A policy that is in force from now on. One that is not valid never is.
    pub fn learn(&self, policy: &str) {
        if let Ok(policy) = PolicySet::parse(policy) {
            let mut known = self.0.lock().expect("no test panics while it learns");
            known.push((policy, None));
        }
    }

    /// Gives the decision of a record again.
    pub fn check(&self, event: &AuditEvent, config: &Path) {
        let case = match Case::read(event) {
            Ok(case) => case,
            Err(Gap::NotDecided) => return,
            Err(gap) => panic!("{gap}: {event:#?}"),
        };
        let mut known = self.0.lock().expect("no test panics while it decides");
        let version = event.policy.as_deref();
        let in_force = known
            .iter_mut()
            .find(|(policy, _)| version == Some(&**policy.version()));
        let Some((policy, names)) = in_force else {
            return;
        };
        let names = names.get_or_insert_with(|| {
            let config = Config::load(config).expect("the configuration of the gateway");
            Names::of(policy, resolver(&config))
        });
        match case.decide(policy, names.name_of(event)) {
            Ok(again) => {
                assert_eq!(again.verdict, case.verdict, "{again:#?} {event:#?}");
                let matched = again.decision.matched.label();
                assert_eq!(Some(matched), event.matched.as_deref(), "{event:#?}");
                assert_eq!(again.decision.level, case.level(), "{event:#?}");
            }
            // The path and most of the address are not recorded.
            Err(Gap::Rule(_)) => {}
            Err(gap) => panic!("{gap}: {event:#?}"),
        }
    }
}
