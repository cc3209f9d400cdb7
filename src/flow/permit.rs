//! The permit to forward. It can be made in `flow` alone, so that a forgotten check cannot leak a request: the proxy
//! names no upstream without one.

use crate::domain::enforcement::Changed;
use crate::domain::enforcement::Grounds;
use crate::domain::enforcement::HeaderPlan;
use std::sync::Arc;

/// Proof that a decision, or the route's exemption, lets this request through, and with which headers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForwardPermit {
    grounds: Grounds,
    headers: HeaderPlan,
    changed: Option<Changed>,
    resource: Option<Arc<str>>,
}

impl ForwardPermit {
    pub(in crate::flow) fn assertion(grounds: Grounds, headers: HeaderPlan) -> Self {
        Self {
            grounds,
            headers,
            changed: None,
            resource: None,
        }
    }

    /// The same, to a service of the operator's own in place of the identity server.
    pub(in crate::flow) fn leading_to(mut self, upstream: Arc<str>) -> Self {
        self.resource = Some(upstream);
        self
    }

    pub(in crate::flow) fn with_change(mut self, changed: Changed) -> Self {
        self.changed = Some(changed);
        self
    }

    /// Why the request may pass.
    pub fn grounds(&self) -> Grounds {
        self.grounds
    }

    /// The service that it leads to; `None` for the identity server.
    pub fn resource(&self) -> Option<&Arc<str>> {
        self.resource.as_ref()
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
