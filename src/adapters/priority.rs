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

/// Gives way now and then: one that waits for the processor gets it after a few pieces of work, and not with the next tick of
/// the clock, up to 4 ms later, or after all of it.
#[derive(Debug)]
pub struct Turns {
    pieces: u32,
    done: u32,
}

impl Turns {
    /// Gives way after so many pieces.
    pub fn every(pieces: u32) -> Self {
        Self { pieces, done: 0 }
    }

    /// A piece of work is done.
    pub fn did(&mut self) {
        self.done = self.done.wrapping_add(1);
        if self.done.is_multiple_of(self.pieces) {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_past_the_greatest() {
        let mut turns = Turns {
            pieces: 4,
            done: u32::MAX,
        };
        turns.did();
        assert_eq!(turns.done, 0);
    }

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
