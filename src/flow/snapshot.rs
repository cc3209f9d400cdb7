//! What one request is judged by: routes, policy, model and settings of one moment. It is taken once per request and
//! passed down, so that no request sees two versions; a reload swaps the whole of it.

use crate::domain::demand::sealed::DemandCookieKey;
use crate::domain::enforcement::StepUpSettings;
use crate::domain::headers::ReservedHeaders;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::page_key::PageKey;
use crate::domain::policy::PolicySet;
use crate::domain::policy::rollout::Rollout;
use crate::domain::resource::Resource;
use crate::domain::review::ReviewSettings;
use crate::domain::rollout_plan::Plan;
use crate::domain::route::RouteTable;
use crate::domain::signals::client_addr::TrustedProxies;
use crate::domain::signals::session::DeviceCookieKey;
use crate::domain::signature::HeaderSigner;
use crate::domain::signing::SigningKeys;
use crate::flow::AuthFlow;
use crate::flow::hindsight::Challenger;
use crate::flow::resign::Resign;
use crate::flow::score::Models;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Problems of a reload that are remembered.
const PROBLEMS_MAX: usize = 20;

/// A rollout plan and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Its file.
    pub file: PathBuf,
}

/// One consistent set of everything that can be reloaded.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with every reload; kept in each record.
    pub version: u64,
    /// The route inventory.
    pub routes: RouteTable,
    /// The policy.
    pub policy: PolicySet,
    /// The keys of the break-glass accounts of the policy.
    pub break_glass: Vec<SubjectKey>,
    /// Which mode applies to whom.
    pub rollout: Rollout,
    /// The rollout plan that the modes are from, where there is one.
    pub plan: Option<Planned>,
    /// What a stronger factor is called.
    pub step_up: StepUpSettings,
    /// Signs the risk headers, when configured.
    pub signer: Option<HeaderSigner>,
    /// Signs tokens and assertions, where something is signed.
    pub signing: Option<Arc<SigningKeys>>,
    /// That tokens are signed anew, where they are.
    pub resign: Option<Resign>,
    /// Services of the operator's own, in the order in which the routes name them.
    pub resources: Vec<Arc<Resource>>,
    /// Whose word on client addresses is taken.
    pub trusted_proxies: TrustedProxies,
    /// Headers that clients may not send on.
    pub reserved_headers: ReservedHeaders,
    /// Host names that are answered, lower case; empty for all.
    pub hosts: Vec<String>,
    /// The models.
    pub models: Models,
    /// Models that are scored beside them and never answer.
    pub challenger: Option<Challenger>,
    /// For state and model together.
    pub budget: Duration,
    /// Makes pseudonyms.
    pub people: Pseudonymizer,
    /// Checks and signs device cookies.
    pub device_key: DeviceCookieKey,
    /// Whether WSO2 may ask for decisions: then each is kept for a while before its request goes there.
    pub answers_wso2: bool,
    /// Opens and seals the copies of demands that browsers keep.
    pub demand_key: DemandCookieKey,
    /// Seals what the gateway's own pages give to browsers.
    pub pages: PageKey,
    /// How many logins may be held, and for how long.
    pub review: ReviewSettings,
    /// Whether requests on passed routes are recorded as well.
    pub audit_passed: bool,
    /// How long a refresh token is known after its latest use.
    pub refresh_token_lifetime: Duration,
}

impl AuthFlow {
    /// What was to follow the snapshot could not be used, for these reasons: it stays.
    pub fn reject_reload(&self, mut problems: Vec<String>) {
        problems.truncate(PROBLEMS_MAX);
        self.rejected.store(Some(Arc::new(problems)));
    }

    /// Why the latest reload was not taken; `None` when it was.
    pub fn rejected_reload(&self) -> Option<Arc<Vec<String>>> {
        self.rejected.load_full()
    }
}
