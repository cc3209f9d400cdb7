//! What a check says once every line was seen: where chains begin and end, and what is missing between them.

use super::Extent;
use super::State;
use super::Verifier;
use crate::domain::audit::verify::report::ChainReport;
use crate::domain::audit::verify::report::End;
use crate::domain::audit::verify::report::Report;
use crate::domain::audit::verify::report::Voucher;
use crate::domain::audit::verify::report::Wrong;

impl Verifier {
    /// Ends the check.
    pub fn finish(mut self) -> Report {
        self.settle_torn(None);
        let chains = std::mem::take(&mut self.chains);
        let mut before: Option<&(String, u64)> = None;
        for (key, state) in &chains {
            let (node, boot) = key;
            let follows = before.filter(|(other, _)| other == node);
            self.check_beginning(key, state, follows.map(|(_, boot)| *boot));
            before = Some(key);
            let has_next = boot.checked_add(1).is_some_and(|next| {
                let mut later = chains.range((node.clone(), next)..);
                later.next().is_some_and(|((other, _), _)| other == node)
            });
            let end = match (state.ended, has_next) {
                (true, _) => End::Clean,
                (false, true) => End::Crashed,
                (false, false) => End::Open,
            };
            self.check_end(key, state, end);
            self.report.records += state.records;
            self.report.lost = self.report.lost.saturating_add(state.lost);
            self.report.chains.push(ChainReport {
                node: node.clone(),
                boot: *boot,
                lines: (state.first, state.next.saturating_sub(1)),
                last_seq: state.last_seq.unwrap_or_default(),
                records: state.records,
                lost: state.lost,
                unsigned: state.unsigned,
                end,
                vouched_by: state.voucher,
            });
        }
        self.report.records += self.report.unchained;
        if self.report.unchained > 0 {
            let count = self.report.unchained;
            self.note(format!(
                "{count} records are from before there was a chain: nothing can be said about them"
            ));
        }
        self.report
    }

    fn check_beginning(&mut self, key: &(String, u64), state: &State, before: Option<u64>) {
        let (node, boot) = key;
        if before.is_some_and(|before| before + 1 < *boot) {
            let first = before.unwrap_or_default() + 1;
            let says = if first + 1 == *boot {
                format!("all of boot {first} is missing, or it has left no line")
            } else {
                format!("all of boots {first} to {} is missing", boot - 1)
            };
            self.find_at(&state.at, key, None, Wrong::Missing, &says);
        }
        let is_first_boot = before.is_none() && *boot == 0;
        if state.first == 0 && (is_first_boot || before.is_some()) {
            return;
        }
        let seen = match state.first.checked_sub(1) {
            Some(n) => Some((node.clone(), *boot, n, state.first_prev)),
            None => state
                .after
                .as_ref()
                .map(|place| (place.node.clone(), place.boot, place.n, place.link)),
        };
        let was_removed = seen.is_some_and(|seen| self.removed.contains(&seen));
        let says = if state.first > 0 {
            format!(
                "the chain begins with line {}; what was before it is not in these files",
                state.first
            )
        } else {
            format!("the first boot in these files is boot {boot}")
        };
        if was_removed {
            self.note(format!(
                "{node}: older files were removed by the log itself; {says}"
            ));
        } else if self.extent == Extent::Part {
            self.note(format!("{node}, boot {boot}: {says}"));
        } else {
            self.find_at(&state.at, key, Some(state.first), Wrong::Cut, &says);
        }
    }

    fn check_end(&mut self, key: &(String, u64), state: &State, end: End) {
        let (node, boot) = key;
        let last = state.next.saturating_sub(1);
        match end {
            End::Clean => {}
            End::Crashed if state.seen || self.extent == Extent::Part => self.note(format!(
                "{node}, boot {boot}: ends without its own word, as boot {} found it: the process was killed",
                boot.saturating_add(1)
            )),
            End::Crashed => self.find_at(
                &state.at,
                key,
                Some(last),
                Wrong::Cut,
                "the chain ends here without its own word, and the next boot has not seen this end",
            ),
            End::Open if self.extent == Extent::Closed => self.find_at(
                &state.at,
                key,
                Some(last),
                Wrong::Cut,
                "the chain ends here without its own word",
            ),
            End::Open => self.note(format!(
                "{node}, boot {boot}: has not ended: it is running, or what came after line {last} was cut off"
            )),
        }
        if state.unsigned > 0 && state.voucher != Voucher::Key {
            self.note(format!(
                "{node}, boot {boot}: the last {} lines are under no signature",
                state.unsigned
            ));
        }
        if state.voucher == Voucher::Nothing && !self.trust.is_empty() && state.signer.is_none() {
            let says = "there is no signature in it by a key that is trusted";
            self.find_at(&state.at, key, Some(last), Wrong::Unvouched, says);
        }
        if state.voucher == Voucher::Nothing && self.trust.is_empty() {
            self.note(format!(
                "{node}, boot {boot}: no key was given: that it agrees with itself does not show who has written it"
            ));
        }
    }
}
