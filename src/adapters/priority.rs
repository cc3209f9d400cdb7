//! The priority of threads that work beside the requests, where both share a processor.

/// How far such a thread steps back: it gets a third of the time of one that does not, and gives way to one that wakes up,
/// with the next tick of the clock at the latest. It still gets through with its work on a processor that is busy without end.
const NICE: i32 = 5;

/// Lets the calling thread step back behind those that serve requests. A system that does not let it is no worse off.
pub fn step_back() {
    // Priorities are of threads on Linux, of processes elsewhere.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, NICE)
    {
        tracing::debug!(%error, "a thread beside the requests keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_steps_back_and_no_other_with_it() {
        let of_this_thread = || rustix::process::getpriority_process(None).unwrap();
        let before = of_this_thread();
        let there = std::thread::spawn(move || {
            step_back();
            of_this_thread()
        });
        assert_eq!(there.join().unwrap(), before.max(NICE));
        assert_eq!(of_this_thread(), before);
    }
}
