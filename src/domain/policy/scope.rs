//! For whom a setting holds: a tenant, an application, or an application within a tenant. Used by the policy's overrides
//! and by the rollout alike, so that "the more specific wins" means the same in both.

use std::fmt;

/// A tenant, an application, or both. At least one is set.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Scope {
    tenant: Option<String>,
    application: Option<String>,
}

/// The tenant that WSO2 means where a request names none.
pub const SUPER_TENANT: &str = "carbon.super";

/// How specific a scope is: an application within a tenant, then an application, then a tenant.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Specificity {
    /// A whole tenant.
    Tenant,
    /// An application in whatever tenant.
    Application,
    /// An application within a tenant.
    Both,
}

impl Scope {
    /// A scope, unless it names neither.
    pub fn new(tenant: Option<String>, application: Option<String>) -> Option<Self> {
        (tenant.is_some() || application.is_some()).then_some(Self {
            tenant,
            application,
        })
    }

    /// The tenant, when it is of one.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The application, when it is of one.
    pub fn application(&self) -> Option<&str> {
        self.application.as_deref()
    }

    /// How specific the scope is, if it covers that tenant and application. Tenants are domains: case does not matter,
    /// and empty means the super tenant.
    pub fn covers(&self, tenant: &str, application: &str) -> Option<Specificity> {
        let tenant = if tenant.is_empty() {
            SUPER_TENANT
        } else {
            tenant
        };
        let tenant_fits = self
            .tenant
            .as_ref()
            .is_none_or(|own| own.eq_ignore_ascii_case(tenant));
        let application_fits = self
            .application
            .as_ref()
            .is_none_or(|own| own == application);
        (tenant_fits && application_fits).then_some(match (&self.tenant, &self.application) {
            (Some(_), Some(_)) => Specificity::Both,
            (None, _) => Specificity::Application,
            (Some(_), None) => Specificity::Tenant,
        })
    }

    /// Whether the two name the same tenant and application.
    pub fn is_same(&self, other: &Scope) -> bool {
        let folded = |scope: &Scope| {
            scope
                .tenant
                .as_ref()
                .map(|tenant| tenant.to_ascii_lowercase())
        };
        folded(self) == folded(other) && self.application == other.application
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tenant, &self.application) {
            (Some(tenant), Some(application)) => {
                write!(f, "tenant `{tenant}`, application `{application}`")
            }
            (Some(tenant), None) => write!(f, "tenant `{tenant}`"),
            (None, Some(application)) => write!(f, "application `{application}`"),
            (None, None) => f.write_str("everything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(tenant: Option<&str>, application: Option<&str>) -> Scope {
        Scope::new(tenant.map(str::to_owned), application.map(str::to_owned)).unwrap()
    }

    #[test]
    fn an_application_within_a_tenant_is_the_most_specific() {
        let both = scope(Some("a.com"), Some("app")).covers("A.com", "app");
        let application = scope(None, Some("app")).covers("a.com", "app");
        let tenant = scope(Some("a.com"), None).covers("a.com", "app");
        assert!(both > application && application > tenant && tenant.is_some());
    }

    #[test]
    fn others_are_not_covered() {
        assert_eq!(
            scope(Some("a.com"), Some("app")).covers("b.com", "app"),
            None
        );
        assert_eq!(
            scope(Some("a.com"), Some("app")).covers("a.com", "App"),
            None
        );
        assert_eq!(Scope::new(None, None), None);
    }

    #[test]
    fn no_tenant_is_the_super_tenant() {
        assert_eq!(
            scope(Some("carbon.super"), None).covers("", "app"),
            Some(Specificity::Tenant)
        );
    }
}
