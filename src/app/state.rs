//! `riskgate state copy | show | forget | forget-held`: what an operator does to the memory. Redis may be in use meanwhile; the file of
//! the embedded store belongs to one process at a time.

use crate::adapters::clock::SystemClock;
use crate::adapters::embedded::EmbeddedError;
use crate::adapters::store;
use crate::adapters::store::StoreError;
use crate::adapters::store::StoreSettings;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::transfer::Body;
use crate::adapters::store::transfer::Cursor;
use crate::adapters::store::transfer::Distinct;
use crate::adapters::store::transfer::Imported;
use crate::adapters::store::transfer::Maintenance;
use crate::adapters::store::transfer::Members;
use crate::app::RunError;
use crate::app::assemble;
use crate::app::keys::Keys;
use crate::app::one;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::demand::DemandScope;
use crate::domain::history::KnownValues;
use crate::domain::history::Profile;
use crate::domain::history::WhichDevices;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use crate::flow::ports::StateError;
use crate::telemetry::remedy::Side;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// How often a copy says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The time that one attempt to connect may take: an operator is patient.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a copy did.
#[derive(Debug, Default)]
pub struct Copied {
    /// Written and kept entries by kind.
    counts: BTreeMap<&'static str, Imported>,
    /// Entries of the source that do not open.
    unreadable: u64,
    /// Whether the frequencies of values were taken over.
    population: bool,
}

/// What shall be forgotten of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Forget {
    /// Every device.
    AllDevices,
    /// One device, by the hash that `show` prints.
    Device(ValueHash),
    /// All that is kept under the subject's name, and every link to it.
    Everything,
}

/// A subject as an operator names it.
#[derive(Clone, Debug)]
pub struct Named {
    /// The username, or the client id.
    pub name: String,
    /// Whether `name` is that of a client.
    pub is_client: bool,
    /// The domain: that of a tenant or, for a user, the id of an organization.
    pub tenant: String,
}

/// Copies everything that is alive in `from` to `to`. What is there already stays, so that a copy that was interrupted
/// goes on when it is started again. Progress goes to `say`, a line each.
pub fn copy(
    config: &Config,
    file: &str,
    from: &str,
    to: &str,
    say: &mut dyn FnMut(&str),
) -> Result<Copied, RunError> {
    let keys = keys(config)?;
    let settings = settings(config, file, &keys)?;
    if from == to {
        return Err(wrong(file, "--from and --to are the same"));
    }
    let of = |side| {
        let mut settings = settings.clone();
        settings.redis.side = side;
        settings
    };
    run(async {
        let source = open(config, file, "--from", from, &of(Side::RedisFrom), true)?;
        let target = open(config, file, "--to", to, &of(Side::RedisTo), false)?;
        let now = SystemClock.now();
        let unusable = |key| move |error: StateError| wrong(file, &format!("{key}: {error}"));
        let failed = |key| move |error: StateError| RunError::System(format!("{key}: {error}"));
        if target.is_foreign(now).await.map_err(unusable("--to"))? {
            return Err(wrong(
                file,
                "--to: what it holds is sealed with another secret: nothing was copied",
            ));
        }
        let mut copied = Copied::default();
        let mut said = Instant::now();
        let page = source.export(Cursor::default(), now).await;
        let mut page = page.map_err(unusable("--from"))?;
        loop {
            copied.unreadable += page.unreadable;
            let mut kinds: BTreeMap<&'static str, Vec<_>> = BTreeMap::new();
            for entry in page.entries {
                kinds.entry(entry.key.kind.name()).or_default().push(entry);
            }
            for (kind, entries) in kinds {
                let done = target.import(&entries, now).await.map_err(failed("--to"))?;
                let count = copied.counts.entry(kind).or_default();
                count.written += done.written;
                count.kept += done.kept;
            }
            if said.elapsed() >= PROGRESS_EVERY {
                said = Instant::now();
                let total = copied.total();
                say(&format!(
                    "{} entries written, {} were there",
                    total.written, total.kept
                ));
            }
            let Some(at) = page.next else { break };
            page = source.export(at, now).await.map_err(failed("--from"))?;
        }
        let total = copied.total();
        if total.written + total.kept == 0 && copied.unreadable > 0 {
            return Err(wrong(
                file,
                "--from: none of what it holds opens: it is sealed with another secret",
            ));
        }
        let population = source.export_population().await;
        let population = population.map_err(failed("--from"))?;
        if population.total > 0 {
            copied.population = target
                .import_population(&population)
                .await
                .map_err(failed("--to"))?;
        }
        target.finish().map_err(failed("--to"))?;
        Ok(copied)
    })
}

/// What is kept about a subject: counts and ages, no values. `None` when nothing is.
pub fn show(config: &Config, file: &str, named: &Named) -> Result<Option<String>, RunError> {
    let keys = keys(config)?;
    let settings = settings(config, file, &keys)?;
    run(async {
        let store = open_own(config, file, &settings)?;
        let now = SystemClock.now();
        let mut text = String::new();
        for (subject, name) in subjects(&keys, named) {
            let summary = summary(store.as_ref(), subject, now)
                .await
                .map_err(failed)?;
            if let Some(summary) = summary {
                text.push_str(&format!("subject    {subject}{name}\n{summary}"));
            }
        }
        Ok((!text.is_empty()).then_some(text))
    })
}

/// Removes the queue of held logins, which need not open for that, and says so; `None` when there was none. Whoever waits signs
/// in again.
pub fn forget_held(config: &Config, file: &str) -> Result<Option<String>, RunError> {
    let keys = keys(config)?;
    let settings = settings(config, file, &keys)?;
    run(async {
        let store = open_own(config, file, &settings)?;
        let queue = [EntryKey::review()];
        let removed = store.remove(&queue, SystemClock.now());
        let removed = removed.await.map_err(failed)?;
        store.finish().map_err(failed)?;
        let said = "all held logins are forgotten: whoever waits signs in again";
        Ok((removed > 0).then(|| said.to_owned()))
    })
}

/// Forgets, and says what was forgotten; `None` when there was nothing.
pub fn forget(
    config: &Config,
    file: &str,
    named: &Named,
    what: Forget,
) -> Result<Option<String>, RunError> {
    let keys = keys(config)?;
    let settings = settings(config, file, &keys)?;
    run(async {
        let store = open_own(config, file, &settings)?;
        let now = SystemClock.now();
        let mut found = false;
        let mut links = 0;
        for (subject, _) in subjects(&keys, named) {
            let key = EntryKey::subject(Kind::Profile, subject);
            let change = |mut profile: Profile| match what {
                Forget::AllDevices => {
                    profile.forget_devices(WhichDevices::All, now);
                    profile
                }
                Forget::Device(device) => {
                    profile.forget_devices(WhichDevices::One(device), now);
                    profile
                }
                Forget::Everything => Profile::forgotten(now),
            };
            if let Forget::Device(device) = what {
                let profile = store.read(&key, now).await.map_err(failed)?;
                if !matches!(profile, Some(Body::Profile(profile)) if profile.devices.find(device).is_some())
                {
                    continue;
                }
            }
            found |= store.change(&key, now, &change).await.map_err(failed)?;
            if what == Forget::Everything {
                let others = [
                    Kind::Subject,
                    Kind::Addresses,
                    Kind::Client,
                    Kind::Scopes,
                    Kind::Demand(DemandScope::User),
                ]
                .map(|kind| EntryKey::subject(kind, subject));
                found |= store.remove(&others, now).await.map_err(failed)? > 0;
                links += forget_links(store.as_ref(), subject, now)
                    .await
                    .map_err(failed)?;
            }
        }
        store.finish().map_err(failed)?;
        let said = match what {
            Forget::AllDevices => "all devices are forgotten".to_owned(),
            Forget::Device(device) => format!("device {device:016x} is forgotten"),
            Forget::Everything => format!(
                "everything is forgotten, and {links} codes, tokens and sessions; what is left says only that device \
                 cookies from before count for nothing"
            ),
        };
        Ok((found || links > 0).then_some(said))
    })
}

impl Copied {
    /// All kinds together.
    fn total(&self) -> Imported {
        let mut total = Imported::default();
        for count in self.counts.values() {
            total.written += count.written;
            total.kept += count.kept;
        }
        total
    }

    /// What was done, a line for each kind.
    pub fn report(&self) -> String {
        let mut text = format!("{:<16} {:>10} {:>10}\n", "kind", "written", "was there");
        let line = |text: &mut String, name: &str, count: Imported| {
            let _infallible = writeln!(text, "{name:<16} {:>10} {:>10}", count.written, count.kept);
        };
        for (kind, count) in &self.counts {
            line(&mut text, kind, *count);
        }
        line(&mut text, "all", self.total());
        if self.unreadable > 0 {
            text.push_str(&format!(
                "{} entries do not open (another secret, or damaged) and were left out\n",
                self.unreadable
            ));
        }
        if self.population {
            text.push_str("the frequencies of values were copied\n");
        }
        text
    }
}

/// The keys of a subject, under the present secret and the one before it.
pub(in crate::app) fn subjects(keys: &Keys, named: &Named) -> Vec<(SubjectKey, &'static str)> {
    // As a target must name it; WSO2 takes no notice of it elsewhere.
    let tenant = named.tenant.to_ascii_lowercase();
    let of = |keys: &Keys| {
        let people = Pseudonymizer::new(keys.pseudonyms.expose());
        if named.is_client {
            people.client(&tenant, &named.name)
        } else {
            people.user(&tenant, &named.name)
        }
    };
    let previous = keys
        .previous
        .as_ref()
        .map(|keys| (of(keys), " (under the previous secret)"));
    [(of(keys), "")].into_iter().chain(previous).collect()
}

async fn summary(
    store: &dyn Maintenance,
    subject: SubjectKey,
    now: Timestamp,
) -> Result<Option<String>, StateError> {
    let mut text = String::new();
    let age = |at: Timestamp| ago(now.since(at));
    for kind in [
        Kind::Profile,
        Kind::Client,
        Kind::Scopes,
        Kind::Subject,
        Kind::Addresses,
        Kind::Demand(DemandScope::User),
    ] {
        match store.read(&EntryKey::subject(kind, subject), now).await? {
            Some(Body::Profile(profile)) => {
                let _infallible = writeln!(
                    text,
                    "profile    {} confirmed logins, the first {}, the last {}",
                    profile.successes,
                    age(profile.first),
                    age(profile.last)
                );
                if profile.forgotten > Timestamp::default() {
                    let _infallible =
                        writeln!(text, "forgotten  devices {}", age(profile.forgotten));
                }
                for (name, known) in [
                    "addresses",
                    "networks",
                    "countries",
                    "browsers",
                    "systems",
                    "languages",
                ]
                .into_iter()
                .zip(profile.known())
                {
                    let _infallible = writeln!(text, "{name:<10} {}", spread(known, now));
                }
                if !profile.names.is_empty() {
                    let beside = profile.names.beside(subject).count();
                    let _infallible =
                        writeln!(text, "names      {beside} more of the same account");
                }
                let _infallible = writeln!(text, "places     {}", profile.places.len());
                let _infallible = writeln!(text, "devices    {}", profile.devices.iter().count());
                for device in profile.devices.iter() {
                    let _infallible = writeln!(
                        text,
                        "  {:016x}  {} logins, the first {}, the last {}",
                        device.value,
                        device.count,
                        age(device.first),
                        age(device.last)
                    );
                }
            }
            Some(Body::Client(client)) => {
                let _infallible = writeln!(
                    text,
                    "client     {} confirmed requests, the first {}, the last {}; {} scopes; rate {:.1}, mean {:.1}, \
                     deviation {:.1}, highest {:.1} (decayed over 5 minutes)",
                    client.requests,
                    age(client.first),
                    age(client.last),
                    client.scopes.iter().count(),
                    client.rate_at(now),
                    client.mean_at(now),
                    client.variance_at(now).sqrt(),
                    client.peak.usual.max(client.peak.current)
                );
            }
            Some(Body::Scopes(usage)) => {
                let count = usage.users.scopes.len() + usage.itself.scopes.len();
                let _infallible = writeln!(
                    text,
                    "scopes     {count}, the latest change {}: `riskgate scopes suggest` lists them",
                    age(usage.last)
                );
            }
            Some(Body::Demand(demand)) => {
                let state = if demand.is_outstanding(now) {
                    "owed"
                } else {
                    "met"
                };
                let _infallible = writeln!(
                    text,
                    "demand     {state}, raised {}, {} challenges in 10 minutes, {} logins without a proof",
                    age(demand.at),
                    demand.challenges_at(now),
                    demand.failed
                );
            }
            Some(Body::Rates(rates)) => {
                let [minutes, day, ..] = rates.decayed_to(kind, now);
                let _infallible = writeln!(
                    text,
                    "failures   {minutes:.1} (half-life 10 minutes), {day:.1} (24 hours)"
                );
            }
            Some(Body::Distinct(Distinct {
                epoch,
                current,
                previous,
            })) if epoch.saturating_add(1) >= kind.epoch(now) => {
                let count = |members: &Members| match members {
                    Members::Number(number) => *number,
                    Members::Values(values) => values.len() as f32,
                };
                let _infallible = writeln!(
                    text,
                    "tried from {:.0} addresses in the latest day, {:.0} in the one before",
                    count(&current),
                    count(&previous)
                );
            }
            Some(Body::Distinct(_) | Body::Link(_) | Body::Review(_)) | None => {}
        }
    }
    Ok((!text.is_empty()).then_some(text))
}

fn spread(known: &KnownValues, now: Timestamp) -> String {
    let newest = known.iter().map(|known| known.first).max();
    match newest {
        Some(newest) => format!(
            "{}, the newest since {}",
            known.iter().count(),
            ago(now.since(newest))
        ),
        None => "none".to_owned(),
    }
}

fn ago(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

/// Removes every link that leads to `subject`, and its name from those of its account. There is no list of them: all entries
/// are looked at.
async fn forget_links(
    store: &dyn Maintenance,
    subject: SubjectKey,
    now: Timestamp,
) -> Result<u64, StateError> {
    let (mut cursor, mut removed) = (Some(Cursor::default()), 0);
    while let Some(at) = cursor {
        let page = store.export(at, now).await?;
        let is_of = |body: &Body| matches!(body, Body::Link(link) if link.subject == Some(subject) || link.client == Some(subject));
        let names = |body: &Body| matches!(body, Body::Profile(profile) if profile.names.kept().contains(&subject));
        for entry in page.entries.iter().filter(|entry| names(&entry.body)) {
            let change = |mut profile: Profile| {
                profile.names.remove(subject);
                profile
            };
            store.change(&entry.key, now, &change).await?;
        }
        let keys: Vec<EntryKey> = page
            .entries
            .iter()
            .filter(|entry| is_of(&entry.body))
            .map(|entry| entry.key)
            .collect();
        if !keys.is_empty() {
            removed += store.remove(&keys, now).await?;
        }
        cursor = page.next;
    }
    Ok(removed)
}

pub(in crate::app) fn keys(config: &Config) -> Result<Keys, RunError> {
    Keys::existing(config).map_err(one)
}

pub(in crate::app) fn settings(
    config: &Config,
    file: &str,
    keys: &Keys,
) -> Result<StoreSettings, RunError> {
    let mut settings = assemble::store(config, file, keys).map_err(one)?;
    settings.redis.connection_timeout = CONNECT_TIMEOUT;
    settings.redis.response_timeout = CONNECT_TIMEOUT;
    settings.redis.write_timeout = CONNECT_TIMEOUT;
    Ok(settings)
}

/// The store of the configuration itself, which is there already.
pub(in crate::app) fn open_own(
    config: &Config,
    file: &str,
    settings: &StoreSettings,
) -> Result<Arc<dyn Maintenance>, RunError> {
    let url = &config.state.url;
    open(config, file, "state.url", url, settings, true)
}

/// Opens a store by its URL: `embedded:` for the file in the data folder, `embedded:DIR` for one elsewhere, or Redis.
fn open(
    config: &Config,
    file: &str,
    key: &str,
    url: &str,
    settings: &StoreSettings,
    must_exist: bool,
) -> Result<Arc<dyn Maintenance>, RunError> {
    let folder = match url.strip_prefix("embedded:") {
        Some("") => Some(config.state.data_dir.as_path()),
        Some(folder) => Some(Path::new(folder)),
        None if url == "embedded" => Some(config.state.data_dir.as_path()),
        None => None,
    };
    if let Some(folder) = folder
        && must_exist
        && !folder.join(store::STATE_FILE).is_file()
    {
        let path = folder.join(store::STATE_FILE);
        return Err(wrong(
            file,
            &format!("{key}: there is no state file `{}`", path.display()),
        ));
    }
    store::maintain(url, folder, settings).map_err(|error| match error {
        StoreError::Embedded(EmbeddedError::InUse { .. }) => RunError::System(format!(
            "{error}: the gateway has it while it runs; stop the gateway first"
        )),
        other => wrong(file, &format!("{key}: {other}")),
    })
}

pub(in crate::app) fn run<T>(
    work: impl Future<Output = Result<T, RunError>>,
) -> Result<T, RunError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| RunError::System(format!("no runtime: {error}")))?
        .block_on(work)
}

pub(in crate::app) fn failed(error: StateError) -> RunError {
    RunError::System(error.to_string())
}

fn wrong(file: &str, problem: &str) -> RunError {
    RunError::Config(vec![ConfigError::new(file, problem)])
}
