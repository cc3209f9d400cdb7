//! The permit to forward. It can be made in `flow` alone, so that a forgotten check cannot leak a request: the proxy
//! names no upstream without one.

use crate::domain::enforcement::Grounds;
use crate::domain::enforcement::HeaderPlan;

/// Proof that a decision, or the route's exemption, lets this request through, and with which headers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForwardPermit {
    grounds: Grounds,
    headers: HeaderPlan,
}

impl ForwardPermit {
    pub(in crate::flow) fn assertion(grounds: Grounds, headers: HeaderPlan) -> Self {
        Self { grounds, headers }
    }

    /// Why the request may pass.
    pub fn grounds(&self) -> Grounds {
        self.grounds
    }

    /// The headers that go with it.
    pub fn headers(&self) -> &HeaderPlan {
        &self.headers
    }
}
