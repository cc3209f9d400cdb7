//! A panic in a hook costs its request and nothing else: the connection lives on, and so do the other streams of it.
//! Tests can ask for one; the code for that is not in an optimised build.

use pingora::Error;
use pingora::ErrorType;
use pingora::Result;
use std::future::Future;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::task::Poll;

/// The work of a hook; a panic in it becomes an error, which is answered with 500 as long as nothing was answered. The work
/// is pinned where it is asked for: taken by value it would have room here twice, and be copied, for each request.
pub async fn shielded<T>(mut work: Pin<&mut impl Future<Output = Result<T>>>) -> Result<T> {
    // What the panic left half done is in the context of this one request, which ends with it.
    poll_fn(
        |task| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(task))) {
            Ok(polled) => polled,
            Err(_) => Poll::Ready(panicked()),
        },
    )
    .await
}

/// The same for a hook that does not wait.
pub fn shielded_now<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| panicked())
}

fn panicked<T>() -> Result<T> {
    Error::e_explain(ErrorType::InternalError, "a hook panicked")
}

/// Panics where a test asked for it: with `RISKGATE_FAULT_POINTS` in the environment of a debug build, a request whose
/// header `x-riskgate-fault` names the hook.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is what a test has asked for")]
pub fn fault_point(hook: &str, head: &pingora::http::RequestHeader) {
    static ASKED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if !*ASKED.get_or_init(|| std::env::var_os("RISKGATE_FAULT_POINTS").is_some()) {
        return;
    }
    let named = head.headers.get("x-riskgate-fault");
    if named.is_some_and(|named| named.as_bytes() == hook.as_bytes()) {
        std::panic::panic_any(format!("a test asked for a panic in `{hook}`"));
    }
}

/// Nothing, in an optimised build.
#[cfg(not(debug_assertions))]
pub fn fault_point(_: &str, _: &pingora::http::RequestHeader) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[tokio::test]
    async fn a_panic_is_an_error_of_ours() {
        let panics = pin!(async {
            tokio::task::yield_now().await;
            panic!("for the test")
        });
        let error = shielded::<()>(panics).await.unwrap_err();
        assert_eq!(error.etype(), &ErrorType::InternalError);
        assert!(shielded_now::<()>(|| panic!("for the test")).is_err());
        assert_eq!(shielded(pin!(async { Ok(7) })).await.unwrap(), 7);
    }
}
