//! The permit to forward. It can be made in `flow` alone, so that a forgotten check cannot leak a request: the proxy
//! names no upstream without one.

use crate::domain::enforcement::Changed;
use crate::domain::enforcement::Grounds;
use crate::domain::enforcement::HeaderPlan;

/// Proof that a decision, or the route's exemption, lets this request through, and with which headers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForwardPermit {
    grounds: Grounds,
    headers: HeaderPlan,
    changed: Option<Changed>,
}

impl ForwardPermit {
    pub(in crate::flow) fn assertion(grounds: Grounds, headers: HeaderPlan) -> Self {
        Self {
            grounds,
            headers,
            changed: None,
        }
    }

    pub(in crate::flow) fn with_change(mut self, changed: Changed) -> Self {
        self.changed = Some(changed);
        self
    }

    /// Why the request may pass.
    pub fn grounds(&self) -> Grounds {
        self.grounds
    }

    /// How the request is changed before it goes on.
    pub fn changed(&self) -> Option<&Changed> {
        self.changed.as_ref()
    }

    /// The headers that go with it.
    pub fn headers(&self) -> &HeaderPlan {
        &self.headers
    }
}
