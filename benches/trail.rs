//! The console's way through a million records: how long they take to be read in, and how long a page of them takes at the
//! front, far back, of one rare user, of a question that nothing answers, and one decision by its id.
//!
//! Budget: a page within 300 ms. Writes some 1.2 GB to a temporary folder and removes it.
//!
//! `cargo bench --bench trail`; `TRAIL_RECORDS` names another number of records.

#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use mimalloc::MiMalloc;
use riskgate::adapters::trail::AuditTrail;
use riskgate::domain::audit::AUDIT_SCHEMA;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::audit::Word;
use riskgate::domain::features::Feature;
use riskgate::domain::time::Timestamp;
use riskgate::domain::trail::Filter;
use riskgate::domain::trail::Page;
use riskgate::domain::trail::tally::Span;
use riskgate::flow::ports::Trail;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const START: i64 = 1_795_000_000_000;
/// What a page may take in the console before it shows what it has.
const SEARCH_BUDGET: Duration = Duration::from_millis(150);
/// What a page may take in all.
const BUDGET: Duration = Duration::from_millis(300);
const ROUNDS: usize = 20;

fn record(number: u64) -> AuditEvent {
    let text = |text: &str| Some(text.to_owned());
    let word = |word: &'static str| Some(Word::from(word));
    let verdict = ["allow", "allow", "allow", "step_up", "block"];
    let person = number.wrapping_mul(7_919) % 50_000;
    AuditEvent {
        schema: AUDIT_SCHEMA,
        seq: number,
        time: Timestamp(START + i64::try_from(number).unwrap_or(0) * 300).to_rfc3339(),
        id: format!("0193f0a0-0000-7000-8000-{number:012x}"),
        class: "scored".into(),
        door: word(if number.is_multiple_of(3) {
            "token"
        } else {
            "login"
        }),
        route: "/commonauth".to_owned(),
        method: "POST".into(),
        tenant: text("carbon.super"),
        client_id: Some(format!("application-{}", number % 40)),
        subject: Some(format!("{person:032x}")),
        address: Some(format!("{:032x}", person * 3)),
        prefix: Some(format!("10.{}.{}.0/24", person % 250, number % 250)),
        country: text(
            ["CH", "DE", "LK", "US"]
                .get(usize::try_from(number % 4).unwrap_or(0))
                .unwrap_or(&"FR"),
        ),
        network: Some("residential".into()),
        browser: text("Firefox 130"),
        os: text("Linux"),
        device: Some("known".into()),
        kind: Some("login".into()),
        features: vec![Some(0.25); Feature::COUNT],
        contributions: vec![0.125; Feature::COUNT],
        status: Some("scored".into()),
        score: Some(u8::try_from(number % 100).unwrap_or(0)),
        level: Some("low".into()),
        reasons: vec!["unfamiliar_device".into(), "ip_velocity".into()],
        verdict: word(
            verdict
                .get(usize::try_from(number % 5).unwrap_or(0))
                .unwrap_or(&"allow"),
        ),
        mode: Some("monitor".into()),
        action: "forwarded".into(),
        response_status: 302,
        outcome: "succeeded".into(),
        ..AuditEvent::default()
    }
}

fn write(file: &Path, count: u64) -> std::io::Result<u64> {
    let mut out = BufWriter::new(std::fs::File::create(file)?);
    for number in 0..count {
        serde_json::to_writer(&mut out, &record(number))?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(std::fs::metadata(file)?.len())
}

fn main() {
    let count: u64 = std::env::var("TRAIL_RECORDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("audit.jsonl");
    let bytes = write(&file, count).expect("room for the records");
    println!("{count} records, {} MB", bytes / 1_000_000);
    let trail = AuditTrail::new(file);
    let start = Instant::now();
    trail.start();
    let seen = trail.seen();
    while *seen.borrow() < count {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("read in: {:.1} s", start.elapsed().as_secs_f64());

    let filter = |pairs: &[(&str, &str)]| Filter::from_query(pairs.iter().copied());
    let page = |filter: &Filter, pages: usize| {
        let mut found = Page::default();
        for _ in 0..pages {
            let start = Instant::now();
            found = trail.page(filter, found.older, 50, &mut || {
                start.elapsed() < SEARCH_BUDGET
            });
        }
        found
    };
    let rare = format!("{:032x}", 7_919);
    let mut worst = Duration::ZERO;
    let mut measure = |name: &str, run: &dyn Fn() -> usize| {
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(run());
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let (median, slowest) = (times.get(ROUNDS / 2), times.last());
        println!("{name}: median {median:?}, slowest {slowest:?}");
        worst = worst.max(slowest.copied().unwrap_or_default());
    };
    let deep = page(&Filter::default(), 200).older;
    measure("first page", &|| page(&Filter::default(), 1).entries.len());
    measure("page 201", &|| {
        trail
            .page(&Filter::default(), deep, 50, &mut || true)
            .entries
            .len()
    });
    measure("one verdict", &|| {
        page(&filter(&[("verdict", "block")]), 1).entries.len()
    });
    measure("one user of 50,000", &|| {
        page(&filter(&[("subject", &rare)]), 1).entries.len()
    });
    // Either value is in every block, both never in one record: the search stops when its time is over.
    measure("nothing has it", &|| {
        page(
            &filter(&[
                ("door", "token"),
                ("country", "CH"),
                ("verdict", "review"),
                ("level", "low"),
            ]),
            1,
        )
        .entries
        .len()
    });
    let never = filter(&[("application", "application-1"), ("country", "CH")]);
    measure("a search that stops", &|| page(&never, 1).entries.len());
    let oldest = record(3).id;
    measure("one decision, the oldest", &|| {
        usize::from(trail.find(&oldest).is_some())
    });
    let now = START / 1_000 + i64::try_from(count).unwrap_or(0) * 3 / 10;
    measure("figures of a week", &|| {
        trail.stretches(Span::Week, now).len()
    });
    println!("slowest of all: {worst:?}, budget {BUDGET:?}");
    assert!(worst < BUDGET, "a page took {worst:?}");
}
