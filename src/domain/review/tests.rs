//! The queue: who waits, who is let in, who is turned away.

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

fn subject(n: u8) -> SubjectKey {
    SubjectKey(Pseudonym::from_bytes([n; 16]))
}

fn login(n: u32, user: u8, bound: Bound) -> HeldLogin {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    HeldLogin {
        id: Pseudonym::from_bytes(id),
        at: NOW,
        expires: NOW.plus(Duration::from_secs(24 * 3600)),
        tenant: "carbon.super".to_owned(),
        client: Some(subject(100)),
        application: "demo".to_owned(),
        subject: Some(subject(user)),
        bound,
        source: u64::from(n),
        known_device: false,
        door: "login".to_owned(),
        score: Some(80),
        reasons: vec!["impossible_travel".to_owned()],
        decision_id: RequestId::new("d".to_owned()),
        country: None,
        network: None,
        ruling: None,
        used: false,
    }
}

fn asker(login: &HeldLogin) -> Asker {
    Asker {
        tenant: login.tenant.clone(),
        client: login.client,
        subject: login.subject,
        bounds: vec![login.bound],
    }
}

fn hold(queue: &mut ReviewQueue, login: &HeldLogin) -> Result<Pseudonym, QueueFull> {
    queue.hold(login.clone(), &asker(login), &ReviewSettings::default())
}

fn ruling(is_release: bool, at: Timestamp) -> Ruling {
    Ruling {
        is_release,
        at,
        operator: "ann".to_owned(),
        reason: String::new(),
    }
}

#[test]
fn asking_again_waits_once() {
    let mut queue = ReviewQueue::default();
    let first = login(1, 1, Bound::Browser(1));
    assert_eq!(hold(&mut queue, &first), Ok(first.id));
    let again = login(2, 1, Bound::Browser(1));
    assert_eq!(hold(&mut queue, &again), Ok(first.id));
    // Another user, device, application or tenant is another login.
    let mut others = [
        login(3, 2, Bound::Browser(1)),
        login(4, 1, Bound::Device(1)),
        login(5, 1, Bound::Browser(1)),
        login(6, 1, Bound::Browser(1)),
    ];
    others[2].client = Some(subject(101));
    others[3].tenant = "example.com".to_owned();
    for other in &others {
        assert_eq!(hold(&mut queue, other), Ok(other.id));
    }
    assert_eq!(queue.waiting(NOW), 5);
    // What has left the queue answers nobody.
    let later = NOW.plus(Duration::from_secs(24 * 3600));
    assert_eq!(queue.waiting(later), 0);
    let mut fresh = login(7, 1, Bound::Browser(1));
    fresh.at = later;
    fresh.expires = later.plus(MINUTE);
    assert_eq!(hold(&mut queue, &fresh), Ok(fresh.id));
    assert_eq!(queue.items().len(), 1);
}

#[test]
fn the_queue_is_bounded_for_all_for_a_user_and_for_an_address() {
    let mut queue = ReviewQueue::default();
    for n in 0..WAITING_PER_SUBJECT_MAX as u32 {
        hold(&mut queue, &login(n, 1, Bound::Browser(u64::from(n)))).unwrap();
    }
    let mut more = login(50, 1, Bound::Browser(50));
    assert_eq!(hold(&mut queue, &more), Err(QueueFull));
    // The owner's own device has a place of its own.
    more.known_device = true;
    assert_eq!(hold(&mut queue, &more), Ok(more.id));

    let mut queue = ReviewQueue::default();
    let mut held = 0;
    for n in 0..100 {
        let mut one = login(n, n as u8, Bound::Browser(u64::from(n)));
        one.source = 7;
        held += usize::from(hold(&mut queue, &one).is_ok());
    }
    assert_eq!(held, WAITING_PER_SOURCE_MAX);

    let mut queue = ReviewQueue::default();
    let settings = ReviewSettings {
        waiting_max: 3,
        ..ReviewSettings::default()
    };
    let mut held = 0;
    for n in 0..10 {
        let one = login(n, n as u8, Bound::Browser(u64::from(n)));
        held += usize::from(queue.hold(one.clone(), &asker(&one), &settings).is_ok());
    }
    assert_eq!(held, 3);
}

#[test]
fn decided_logins_make_room() {
    let mut queue = ReviewQueue::default();
    for n in 0..2_000_u32 {
        let mut one = login(n, (n % 250) as u8, Bound::Browser(u64::from(n)));
        one.at = NOW.plus(MINUTE * 16 * n / 100);
        one.expires = NOW.plus(QUEUE_TTL);
        hold(&mut queue, &one).unwrap();
        queue
            .rule(&one.id.to_string(), ruling(false, one.at))
            .unwrap();
    }
    assert_eq!(queue.items().len(), ITEMS_MAX);
    assert!(ReviewQueue::from_items(queue.items().to_vec()).is_some());
    let mut items = queue.items().to_vec();
    items.push(login(1, 1, Bound::Browser(1)));
    assert_eq!(ReviewQueue::from_items(items), None);
}

#[test]
fn a_release_lets_its_own_user_in_for_a_while() {
    let mut queue = ReviewQueue::default();
    let held = login(1, 1, Bound::Browser(1));
    hold(&mut queue, &held).unwrap();
    let asks = asker(&held);
    assert_eq!(queue.releases(&asks, NOW).count(), 0);
    queue.rule(&held.reference(), ruling(true, NOW)).unwrap();
    assert_eq!(queue.releases(&asks, NOW).count(), 1);
    assert_eq!(queue.releases(&asks, NOW.plus(PASS_TTL)).count(), 0);
    // The name comes with the next request.
    let unnamed = Asker {
        subject: None,
        ..asks.clone()
    };
    assert_eq!(queue.releases(&unnamed, NOW).count(), 1);
    for other in [
        Asker {
            subject: Some(subject(2)),
            ..asks.clone()
        },
        Asker {
            client: Some(subject(101)),
            ..asks.clone()
        },
        Asker {
            tenant: "example.com".to_owned(),
            ..asks.clone()
        },
        Asker {
            bounds: vec![Bound::Browser(2), Bound::Device(1), Bound::Source(1)],
            ..asks.clone()
        },
    ] {
        assert_eq!(queue.releases(&other, NOW).count(), 0, "{other:?}");
    }
    assert!(queue.spend(held.id));
    assert!(!queue.spend(held.id));
    assert_eq!(queue.releases(&asks, NOW).count(), 0);
    assert_eq!(
        queue.find(held.id, NOW).unwrap().standing(NOW),
        Standing::Spent
    );
    // Used up: the next one waits again.
    assert_eq!(queue.answering(&asks, NOW), None);
}

#[test]
fn a_refusal_answers_for_a_while() {
    let mut queue = ReviewQueue::default();
    let held = login(1, 1, Bound::Browser(1));
    hold(&mut queue, &held).unwrap();
    queue
        .rule(&held.id.to_string(), ruling(false, NOW))
        .unwrap();
    assert_eq!(
        hold(&mut queue, &login(2, 1, Bound::Browser(1))),
        Ok(held.id)
    );
    let mut later = login(3, 1, Bound::Browser(1));
    later.at = NOW.plus(REFUSAL_TTL);
    assert_eq!(hold(&mut queue, &later), Ok(later.id));
}

#[test]
fn a_login_is_decided_once() {
    let mut queue = ReviewQueue::default();
    let held = login(0xABCD_EF01, 1, Bound::Browser(1));
    hold(&mut queue, &held).unwrap();
    let mut rule =
        |id: &str, is_release| queue.rule(id, ruling(is_release, NOW)).map(|item| item.id);
    for unknown in ["", "abcdef0", "abcdef02", "ffffffff", "abcdef01zz", "*"] {
        assert_eq!(rule(unknown, true), Err(RulingError::Unknown), "{unknown}");
    }
    assert_eq!(rule("ABCDEF01", true), Ok(held.id));
    assert_eq!(rule("abcdef01", true), Ok(held.id));
    assert_eq!(rule("abcdef01", false), Err(RulingError::Decided));
    let ruled = queue.find(held.id, NOW).unwrap().ruling.clone().unwrap();
    assert_eq!((ruled.is_release, ruled.operator.as_str()), (true, "ann"));
}

#[test]
fn two_logins_whose_ids_begin_alike_need_more_digits() {
    let mut queue = ReviewQueue::default();
    let one = login(1, 1, Bound::Browser(1));
    let mut two = login(1, 2, Bound::Browser(2));
    let mut id = *two.id.as_bytes();
    id[15] = 9;
    two.id = Pseudonym::from_bytes(id);
    hold(&mut queue, &one).unwrap();
    hold(&mut queue, &two).unwrap();
    let error = queue.rule(&one.reference(), ruling(true, NOW)).err();
    assert_eq!(error, Some(RulingError::Unknown));
    assert!(queue.rule(&two.id.to_string(), ruling(true, NOW)).is_ok());
}

#[test]
fn what_operators_see_survives_json_and_cannot_steer_a_terminal() {
    let mut queue = ReviewQueue::default();
    let mut held = login(1, 1, Bound::Browser(1));
    held.application = "evil\u{1b}[2J\n\u{202e}x".to_owned();
    hold(&mut queue, &held).unwrap();
    let listing = Listing::of(&queue, false, NOW.plus(MINUTE * 3));
    assert_eq!(Listing::parse(&listing.json()), Some(listing.clone()));
    let table = listing.table();
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(!table.contains(['\u{1b}', '\u{202e}']), "{table}");
    assert!(
        table.contains("3m") && table.contains("impossible_travel"),
        "{table}"
    );
    queue.rule(&held.reference(), ruling(true, NOW)).unwrap();
    assert_eq!(Listing::of(&queue, false, NOW).logins.len(), 0);
    assert_eq!(Listing::of(&queue, true, NOW).logins[0].state, "released");
    assert_eq!(Listing::parse("{"), None);
}

#[test]
fn a_ruling_of_a_clock_that_was_ahead_has_ended() {
    let ahead = NOW.plus(Duration::from_secs(3 * 24 * 3600));
    for is_release in [false, true] {
        let mut held = login(1, 1, Bound::Browser(1));
        held.ruling = Some(ruling(is_release, ahead));
        assert!(!held.answers(&asker(&held), NOW));
        assert_ne!(held.standing(NOW), Standing::Released);
        held.ruling = Some(ruling(is_release, NOW.plus(MINUTE)));
        assert_eq!(held.answers(&asker(&held), NOW), !is_release);
        assert_eq!(held.standing(NOW) == Standing::Released, is_release);
    }
}

#[test]
fn names_keep_their_letters_whatever_the_language() {
    for name in [
        "Stra\u{df}enbahn (K\u{f6}ln)",
        "\u{96fb}\u{8eca} \u{4e88}\u{7d04}",
    ] {
        assert_eq!(printable(name), name);
    }
    assert_eq!(printable("a\u{1b}[2J\u{202e}\u{200b}b"), "a?[2J??b");
}
