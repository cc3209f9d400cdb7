//! What a file of events may hold, and what is said of one that may not.

use super::*;
use proptest::prelude::*;

const HEADER: &str = "Login Timestamp,User ID,IP Address,User Agent String,Login Successful,Event Kind,ASN,Second Factor,Attacker Kind\n";
const ALICE: &str = "2026-01-02 03:04:05.678,alice,192.0.2.1,curl/8,True,,,,\n";

/// The users of the events of `text`, or the first error.
fn users(text: impl AsRef<[u8]>) -> Result<Vec<String>, BadEvent> {
    let mut events = Events::open(text.as_ref())?;
    let mut users = Vec::new();
    while let Some(event) = events.read()? {
        users.push(event.user.to_owned());
    }
    Ok(users)
}

/// What is said of a file with the header above.
fn said(records: impl AsRef<[u8]>) -> String {
    let text = [HEADER.as_bytes(), records.as_ref()].concat();
    users(text).unwrap_err().to_string()
}

fn with(field: usize, value: &str) -> String {
    let mut fields: Vec<&str> = ALICE.trim_end().split(',').collect();
    fields[field] = value;
    fields.join(",") + "\n"
}

#[test]
fn columns_are_found_by_name() {
    let text = "ASN,Login Successful,User Agent String,IP Address,User ID,Fancy,Login Timestamp\n\
                29695.0,false,,2001:db8::1,bob,x,2026-01-02 03:04:05\n";
    let mut events = Events::open(text.as_bytes()).unwrap();
    assert_eq!(events.ignored(), ["Fancy"]);
    assert_eq!(events.label(), None);
    let event = events.read().unwrap().unwrap();
    assert_eq!((event.user, event.line), ("bob", 2));
    assert_eq!(event.network.asn, Some(29_695));
    assert!(!event.is_successful && event.agent.is_none() && event.has_second_factor);
    assert_eq!(event.at.to_rfc3339(), "2026-01-02T03:04:05.000Z");
    assert_eq!(event.tenant, "carbon.super");
    assert!(events.read().unwrap().is_none());
}

#[test]
fn spreadsheets_may_write_their_way() {
    let plain = users([HEADER, ALICE].concat()).unwrap();
    let crlf = [HEADER, ALICE].concat().replace('\n', "\r\n");
    let marked = format!("\u{feff}{HEADER}{ALICE}");
    let quoted = format!("{HEADER}{}", with(1, "\"alice\""));
    let unended = format!("{HEADER}{}", ALICE.trim_end());
    for text in [crlf, marked, quoted, unended] {
        assert_eq!(users(&text).unwrap(), plain, "{text:?}");
    }
    let comma = with(1, "\"a,\"\"b\"\"\nc\"");
    assert_eq!(users([HEADER, &comma].concat()).unwrap(), ["a,\"b\"\nc"]);
}

#[test]
fn headers_without_what_is_needed_are_refused() {
    for (text, expected) in [
        ("", "line 1: no header line"),
        ("\n\n", "line 1: no header line"),
        (
            "User ID,IP Address\n",
            "no column `Login Timestamp`, `User Agent String`",
        ),
        ("User ID,User ID\n", "the column `User ID` is there twice"),
        ("login timestamp,user id\n", "no column `Login Timestamp`"),
    ] {
        let error = users(text).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.can_skip);
    }
    assert!(
        users(b"\xff\xfe,x\n")
            .unwrap_err()
            .to_string()
            .contains("UTF-8")
    );
}

#[test]
fn what_does_not_fit_is_named_by_line_and_column() {
    for (field, value, expected) in [
        (
            0,
            "2026-02-30 00:00:00.000",
            "line 2: `Login Timestamp`: `2026-02-30",
        ),
        (0, "02/01/2026 10:00", "`Login Timestamp`"),
        (0, "", "`Login Timestamp`: ``"),
        (1, "", "line 2: `User ID`: empty"),
        (2, "300.1.1.1", "line 2: `IP Address`: `300.1.1.1`"),
        (2, "192.0.2.1:80", "`IP Address`"),
        (3, "a\0b", "line 2: `User Agent String`: `a\u{fffd}b`"),
        (
            4,
            "yes",
            "line 2: `Login Successful`: `yes`; expected True or False",
        ),
        (4, "", "`Login Successful`"),
        (5, "logout", "line 2: `Event Kind`: `logout`"),
        (6, "AS29695", "line 2: `ASN`: `AS29695`"),
        (7, "perhaps", "line 2: `Second Factor`: `perhaps`"),
    ] {
        let said = said(with(field, value));
        assert!(said.contains(expected), "{value:?}: {said}");
    }
    let cut = said("2026-01-02 03:04:05.678,alice\n");
    assert_eq!(cut, "line 2: 2 fields; expected 9 as in the header line");
}

#[test]
fn time_never_runs_backwards() {
    let earlier = ALICE.replace("05.678", "05.677");
    let said = said([ALICE, ALICE, &earlier].concat());
    assert!(said.starts_with("line 4: `Login Timestamp`"), "{said}");
}

#[test]
fn bytes_that_are_no_text_are_passed_over_or_refused() {
    let mut text = [
        HEADER.as_bytes(),
        b"2026-01-02 03:04:05.678,a\xffb,192.0.2.1,x,True,,,,\n",
    ]
    .concat();
    text.extend_from_slice(ALICE.as_bytes());
    let mut events = Events::open(text.as_slice()).unwrap();
    let error = events.read().unwrap_err();
    assert!(error.can_skip);
    assert_eq!(error.to_string(), "line 2: field 2 is not UTF-8");
    assert_eq!(events.read().unwrap().unwrap().user, "alice");
}

#[test]
fn a_field_of_a_mebibyte_can_be_passed_over() {
    let long = with(3, &"x".repeat(1024 * 1024));
    let text = [HEADER, &long, ALICE].concat();
    let mut events = Events::open(text.as_bytes()).unwrap();
    let error = events.read().unwrap_err();
    assert!(error.can_skip, "{error}");
    assert_eq!(
        error.to_string(),
        "line 2: a record of more than 65536 bytes"
    );
    assert_eq!(events.read().unwrap().unwrap().user, "alice");
}

/// An open quote swallows the rest of a file; it is not read to its end.
#[test]
fn a_record_without_an_end_ends_the_reading() {
    let header = io::Cursor::new([HEADER, "\"2026"].concat());
    let endless = header.chain(io::repeat(b'x'));
    let mut events = Events::open(endless).unwrap();
    let error = events.read().unwrap_err();
    assert!(!error.can_skip);
    assert!(
        error.to_string().contains("a record without an end"),
        "{error}"
    );
}

#[test]
fn labels_come_from_the_columns_that_are_there() {
    let text = "Login Timestamp,User ID,IP Address,User Agent String,Login Successful,Is Attack IP,Is Account Takeover\n\
                2026-01-02 03:04:05.678,a,192.0.2.1,x,True,True,False\n\
                2026-01-02 03:04:05.678,a,192.0.2.1,x,True,False,True\n\
                2026-01-02 03:04:05.678,a,192.0.2.1,x,True,False,False\n";
    let mut events = Events::open(text.as_bytes()).unwrap();
    assert_eq!(events.label(), Some(Label::Takeover));
    let mut found = Vec::new();
    while let Some(event) = events.read().unwrap() {
        found.push((
            event.attack(Label::Takeover).is_some(),
            event.attack(Label::AttackAddress).is_some(),
            event.attack(Label::AttackerKind).is_some(),
        ));
    }
    assert_eq!(
        found,
        [
            (false, true, false),
            (true, true, false),
            (false, false, false)
        ]
    );
}

#[test]
fn attackers_have_no_second_factor_unless_it_is_said() {
    let text = [HEADER, ALICE, &with(8, "naive")].concat();
    let mut events = Events::open(text.as_bytes()).unwrap();
    assert!(events.read().unwrap().unwrap().has_second_factor);
    assert!(!events.read().unwrap().unwrap().has_second_factor);
}

#[test]
fn moments_are_those_of_the_calendar() {
    for (text, expected) in [
        ("1970-01-01 00:00:00.000", "1970-01-01T00:00:00.000Z"),
        ("2000-02-29 23:59:59.999", "2000-02-29T23:59:59.999Z"),
        ("2024-12-31 12:00:00", "2024-12-31T12:00:00.000Z"),
        ("2026-03-01 00:00:00.001", "2026-03-01T00:00:00.001Z"),
    ] {
        assert_eq!(moment(text).unwrap().to_rfc3339(), expected);
    }
    for text in [
        "2023-02-29 00:00:00",
        "1900-02-28 00:00:00",
        "2026-13-01 00:00:00",
        "2026-00-01 00:00:00",
        "2026-01-01 24:00:00",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00.1",
        "2026-01-01 00:00:0x",
        "+026-01-01 00:00:00",
    ] {
        assert_eq!(moment(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_a_file_holds_it_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(users(&bytes));
        drop(users([HEADER.as_bytes(), &bytes].concat()));
    }

    #[test]
    fn whatever_a_field_holds_it_is_read_or_refused(field in 0_usize..9, value in ".{0,30}") {
        let quoted = format!("\"{}\"", value.replace('"', "\"\""));
        drop(users([HEADER, &with(field, &quoted)].concat()));
    }

    #[test]
    fn the_calendar_is_that_of_everybody(millis in 0_i64..253_402_300_799_999) {
        let text = Timestamp(millis).to_rfc3339().replace('T', " ").replace('Z', "");
        prop_assert_eq!(moment(&text), Some(Timestamp(millis)));
    }
}
