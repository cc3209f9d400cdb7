//! Whether the addresses of WSO2's login pages say what is read in them. WSO2 can be told to leave parameters out of them
//! (`[authentication.endpoint.redirect_params]`); how a login goes on is then not seen here, and nothing else shows it.

use crate::domain::outcome::ResponseHead;
use crate::telemetry::metrics::Metrics;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// Pages without the word, one after the other, until it is told: an application may have a login page of its own.
const BARE_MAX: u32 = 10;

/// The login pages that came one after the other without the word that each has.
#[derive(Debug, Default)]
pub(in crate::flow) struct LoginPages {
    bare: AtomicU32,
}

impl LoginPages {
    /// Looks at an answer. That none of the pages says anything is told once, and again only if one did meanwhile.
    pub(in crate::flow) fn look(&self, metrics: &Metrics, head: &ResponseHead) {
        let Some(says) = head.names_authenticators() else {
            return;
        };
        if !says {
            metrics.login_page_bare();
        }
        if self.is_to_be_told(says) {
            tracing::warn!(
                remedy = "let WSO2's [authentication.endpoint.redirect_params] pass what conf/wso2/README.md names, step 1",
                "the login pages of the identity server come without `authenticators` in their address: how logins go on is not seen"
            );
        }
    }

    fn is_to_be_told(&self, says: bool) -> bool {
        if says {
            // Usually there is nothing to write.
            if self.bare.load(Ordering::Relaxed) > 0 {
                self.bare.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let one_more = |bare: u32| Some(bare.saturating_add(1));
        let before = self
            .bare
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        before == Ok(BARE_MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_and_again_after_a_page_that_was_right() {
        let pages = LoginPages::default();
        let told =
            |says: bool, times: u32| (0..times).filter(|_| pages.is_to_be_told(says)).count();
        assert_eq!(told(true, 5), 0);
        assert_eq!(told(false, BARE_MAX - 1), 0);
        assert_eq!(told(true, 1), 0);
        assert_eq!(told(false, 5 * BARE_MAX), 1);
        assert_eq!(told(true, 1), 0);
        assert_eq!(told(false, BARE_MAX), 1);
    }
}
