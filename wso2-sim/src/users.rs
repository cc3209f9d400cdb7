//! Users at run time: password check, counting of failures, locking. It must not know how the answer is worded.

use std::collections::HashMap;

use crate::seed::User;
use crate::store::UserRef;

/// Outcome of a password or one-time-code check, with what WSO2 tells about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Check {
    /// The account is locked since earlier, or by an administrator (17003).
    Locked { by_admin: bool },
    /// Right.
    Passed(UserRef),
    /// No such user (17001).
    Unknown,
    /// Wrong (17002); the attempts that remain, 0 meaning that this failure locked the account.
    Wrong { remaining: u32 },
}

/// Which secret is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proof<'a> {
    Password(&'a str),
    Totp { code: &'a str, now_s: i64 },
}

#[derive(Debug)]
struct Account {
    user: User,
    failures: u32,
    locked_until_ms: i64,
    is_locked_by_admin: bool,
}

/// What the e-mail addresses of all users end with.
pub(crate) const EMAIL_DOMAIN: &str = "@users.example";

/// All users, by realm and lower-case name.
#[derive(Debug)]
pub(crate) struct Users {
    accounts: HashMap<(String, String), Account>,
    keys_by_id: HashMap<String, (String, String)>,
    failures_max: u32,
    lock_ms: i64,
    has_email_logins: bool,
}

impl Users {
    pub(crate) fn new(users: &[User], failures_max: u32, lock_ms: i64) -> Self {
        let mut all = Self {
            accounts: HashMap::new(),
            keys_by_id: HashMap::new(),
            failures_max: failures_max.max(1),
            lock_ms,
            has_email_logins: false,
        };
        for user in users {
            let key = key(&user.realm, &user.username);
            all.keys_by_id.insert(user.id(), key.clone());
            all.accounts.insert(
                key,
                Account {
                    user: user.clone(),
                    failures: 0,
                    locked_until_ms: 0,
                    is_locked_by_admin: false,
                },
            );
        }
        all
    }

    /// With multi-attribute login: the e-mail address of a user does as well.
    pub(crate) fn with_email_logins(mut self, has_email_logins: bool) -> Self {
        self.has_email_logins = has_email_logins;
        self
    }

    /// A user by name, as typed: `alice`, `PRIMARY/alice`, `alice@carbon.super`.
    pub(crate) fn find(&self, realm: &str, tenant: &str, typed: &str) -> Option<&User> {
        let key = key(realm, &self.local_name(typed, tenant));
        self.accounts.get(&key).map(|account| &account.user)
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&User> {
        let key = self.keys_by_id.get(id)?;
        self.accounts.get(key).map(|account| &account.user)
    }

    pub(crate) fn of_realm<'a>(&'a self, realm: &'a str) -> impl Iterator<Item = &'a User> {
        self.accounts
            .values()
            .map(|account| &account.user)
            .filter(move |user| user.realm == realm)
    }

    /// Compares a secret and counts.
    pub(crate) fn check(
        &mut self,
        realm: &str,
        tenant: &str,
        typed: &str,
        proof: Proof<'_>,
        now_ms: i64,
    ) -> Check {
        let key = key(realm, &self.local_name(typed, tenant));
        let Some(account) = self.accounts.get_mut(&key) else {
            return Check::Unknown;
        };
        if account.is_locked_by_admin || account.locked_until_ms > now_ms {
            return Check::Locked {
                by_admin: account.is_locked_by_admin,
            };
        }
        let is_right = match proof {
            Proof::Password(password) => account.user.password == password,
            Proof::Totp { code, now_s } => account
                .user
                .totp_secret
                .as_deref()
                .is_some_and(|secret| crate::totp::is_valid(secret, code, now_s)),
        };
        if is_right {
            account.failures = 0;
            return Check::Passed(UserRef {
                id: account.user.id(),
                username: account.user.username.clone(),
            });
        }
        account.failures = account.failures.saturating_add(1);
        if account.failures >= self.failures_max {
            account.failures = 0;
            account.locked_until_ms = now_ms.saturating_add(self.lock_ms);
            return Check::Wrong { remaining: 0 };
        }
        Check::Wrong {
            remaining: self.failures_max.saturating_sub(account.failures),
        }
    }

    /// Gives a user an authenticator app.
    pub(crate) fn set_totp_secret(&mut self, id: &str, secret: &str) {
        let key = self.keys_by_id.get(id);
        if let Some(account) = key.and_then(|key| self.accounts.get_mut(key)) {
            account.user.totp_secret = Some(secret.to_owned());
        }
    }

    /// Gives a user another password.
    pub(crate) fn set_password(&mut self, id: &str, password: &str) {
        let key = self.keys_by_id.get(id);
        if let Some(account) = key.and_then(|key| self.accounts.get_mut(key)) {
            account.user.password = password.to_owned();
        }
    }

    /// Locks or unlocks by hand; false when there is no such user.
    pub(crate) fn set_locked(&mut self, id: &str, is_locked: bool) -> bool {
        let account = self
            .keys_by_id
            .get(id)
            .and_then(|key| self.accounts.get_mut(key));
        let Some(account) = account else {
            return false;
        };
        account.is_locked_by_admin = is_locked;
        account.locked_until_ms = 0;
        account.failures = 0;
        true
    }

    pub(crate) fn is_locked(&self, id: &str, now_ms: i64) -> bool {
        self.keys_by_id
            .get(id)
            .and_then(|key| self.accounts.get(key))
            .is_some_and(|account| account.is_locked_by_admin || account.locked_until_ms > now_ms)
    }

    /// The name without user store and tenant.
    fn local_name(&self, typed: &str, tenant: &str) -> String {
        let typed = typed.trim();
        let typed = typed.strip_prefix("PRIMARY/").unwrap_or(typed);
        let typed = typed
            .strip_suffix(tenant)
            .and_then(|rest| rest.strip_suffix('@'))
            .unwrap_or(typed);
        let email = typed.strip_suffix(EMAIL_DOMAIN);
        email
            .filter(|_| self.has_email_logins)
            .unwrap_or(typed)
            .to_owned()
    }
}

fn key(realm: &str, name: &str) -> (String, String) {
    (realm.to_owned(), name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::SUPER_TENANT;

    fn users() -> Users {
        Users::new(&[User::new(SUPER_TENANT, "alice", "right")], 3, 1_000)
    }

    fn try_password(users: &mut Users, name: &str, password: &str, now_ms: i64) -> Check {
        users.check(
            SUPER_TENANT,
            SUPER_TENANT,
            name,
            Proof::Password(password),
            now_ms,
        )
    }

    #[test]
    fn an_account_locks_after_the_last_attempt_and_opens_again() {
        let mut users = users();
        for remaining in [2, 1, 0] {
            let check = try_password(&mut users, "alice", "wrong", 0);
            assert_eq!(check, Check::Wrong { remaining });
        }
        let locked = Check::Locked { by_admin: false };
        assert_eq!(try_password(&mut users, "alice", "right", 999), locked);
        assert!(matches!(
            try_password(&mut users, "alice", "right", 1_000),
            Check::Passed(_)
        ));
    }

    #[test]
    fn names_are_found_with_store_tenant_and_any_case() {
        let mut users = users();
        for name in ["ALICE", "PRIMARY/alice", "alice@carbon.super", " alice "] {
            let check = try_password(&mut users, name, "right", 0);
            assert!(matches!(check, Check::Passed(_)), "{name}");
        }
        for name in ["alice@example.com", "", "@carbon.super"] {
            assert_eq!(try_password(&mut users, name, "right", 0), Check::Unknown);
        }
    }
}
