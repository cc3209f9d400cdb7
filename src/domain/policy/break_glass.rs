//! The accounts that must always have a way in, whatever the model says. Names only; what that means is decided in
//! `PolicySet::decide`.

use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::canonical_username;
use crate::domain::policy::scope::SUPER_TENANT;

/// How many there may be: each one is an account that an attacker would like to be.
pub const ACCOUNTS_MAX: usize = 16;

/// Break-glass accounts, by tenant and canonical name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BreakGlass {
    accounts: Vec<Account>,
}

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// The tenant domain in lower case.
    pub tenant: String,
    /// The canonical username.
    pub name: String,
}

impl Account {
    /// The account of that name; without a tenant, of the super tenant. None if no name is left.
    pub fn new(tenant: Option<&str>, name: &str) -> Option<Self> {
        let tenant = tenant
            .filter(|tenant| !tenant.is_empty())
            .unwrap_or(SUPER_TENANT)
            .to_ascii_lowercase();
        let name = canonical_username(&tenant, name);
        (!name.is_empty()).then_some(Self { tenant, name })
    }
}

impl BreakGlass {
    /// Those accounts.
    pub fn new(accounts: Vec<Account>) -> Self {
        Self { accounts }
    }

    /// Whether the account with that canonical name is one of them. Tenant and organization count: the administrator of
    /// one tenant, or of an organization within it, cannot make a break-glass account by giving a user the name of
    /// another's. None is of an organization.
    pub fn contains(&self, tenant: &str, organization: &str, canonical_name: &str) -> bool {
        organization.is_empty()
            && self.accounts.iter().any(|account| {
                account.name == canonical_name && account.tenant.eq_ignore_ascii_case(tenant)
            })
    }

    /// The keys of the accounts, also under the previous secret while that is being exchanged: what a code, a token or a
    /// session stands for is known by them.
    pub fn keys(&self, people: &Pseudonymizer) -> Vec<SubjectKey> {
        let both = [Some(people), people.previous()];
        let of = |people: &Pseudonymizer| -> Vec<_> {
            let accounts = self.accounts.iter();
            let key = |account: &Account| people.user(&account.tenant, &account.name);
            accounts.map(key).collect()
        };
        both.into_iter().flatten().flat_map(of).collect()
    }

    /// The accounts.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_canonically_within_their_tenant() {
        let accounts = [
            Account::new(None, " Admin@carbon.super"),
            Account::new(Some("Acme.com"), "PRIMARY/root"),
        ];
        let accounts = BreakGlass::new(accounts.into_iter().flatten().collect());
        assert!(accounts.contains("carbon.super", "", "admin"));
        assert!(accounts.contains("acme.com", "", "root"));
        assert!(!accounts.contains("acme.com", "", "admin"));
        assert!(!accounts.contains("carbon.super", "", ""));
        assert!(!accounts.contains("carbon.super", "an-organization", "admin"));
    }

    #[test]
    fn nothing_is_no_account() {
        assert_eq!(Account::new(None, "  "), None);
    }
}
