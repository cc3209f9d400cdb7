//! What an outcome does to the features: nothing to those of its own request, and nothing at all where it is not trusted.

use super::EVENTS;
use super::MODEL;
use super::ROW_BYTES;
use super::evaluated;
use super::rows;
use riskgate::domain::features::Feature;
use tempfile::TempDir;

/// The same events, in which one login ends the other way.
fn flipped(at: usize) -> String {
    let text = std::fs::read_to_string(EVENTS).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = &mut lines[at + 1];
    let (from, to) = if line.contains(",True,False,login,") {
        (",True,False,login,", ",False,False,login,")
    } else {
        (",False,False,login,", ",True,False,login,")
    };
    assert!(line.contains(from), "{line}");
    *line = line.replacen(from, to, 1);
    lines.join("\n") + "\n"
}

#[test]
fn no_feature_knows_how_its_own_request_ends() {
    let features = |folder: &TempDir| std::fs::read(folder.path().join("features.npy")).unwrap();
    let (before, outcome) = evaluated(MODEL, EVENTS, &["--evaluator", "native"], None);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let count = rows(before.path()).len();
    let expected = features(&before);
    let header = expected.len() - count * ROW_BYTES;
    let text = std::fs::read_to_string(EVENTS).unwrap();
    let logins: Vec<usize> = text
        .lines()
        .skip(1)
        .enumerate()
        .filter(|(_, line)| line.contains(",login,") && line.contains(",False,login,"))
        .map(|(at, _)| at)
        .collect();
    let mut moved = 0;
    for at in logins.iter().copied().step_by(logins.len() / 5) {
        let (after, outcome) = evaluated(
            MODEL,
            "-",
            &["--evaluator", "native"],
            Some(flipped(at).as_bytes()),
        );
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        let found = features(&after);
        let up_to_it = header + (at + 1) * ROW_BYTES;
        assert!(found[..up_to_it] == expected[..up_to_it], "event {at}");
        moved += usize::from(found != expected);
    }
    assert!(moved > 0, "an outcome must matter to what comes after it");
}

#[test]
fn an_attacker_who_got_in_becomes_no_more_familiar() {
    let (folder, outcome) = evaluated(MODEL, EVENTS, &["--evaluator", "native"], None);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let bytes = std::fs::read(folder.path().join("features.npy")).unwrap();
    let header = bytes.len() - rows(folder.path()).len() * ROW_BYTES;
    let text = std::fs::read_to_string(EVENTS).unwrap();
    let row_of = |case: &str| {
        let case = format!(",{case}");
        let number = text.lines().skip(1).position(|line| line.ends_with(&case));
        let at = header + number.unwrap() * ROW_BYTES;
        let row = bytes[at..at + ROW_BYTES].chunks_exact(4);
        row.map(|four| f32::from_le_bytes(four.try_into().unwrap()))
            .collect::<Vec<f32>>()
    };
    let (first, again) = (row_of("far-vpn-new-device"), row_of("far-vpn-again"));
    for feature in [
        Feature::LlrAddress,
        Feature::LlrAsn,
        Feature::LlrCountry,
        Feature::LlrLanguage,
        Feature::DeviceCookie,
        Feature::NoveltyCombined,
    ] {
        let (before, after) = (first[feature as usize], again[feature as usize]);
        assert!(
            after >= before - 0.01,
            "{}: {before} {after}",
            feature.name()
        );
    }
}
