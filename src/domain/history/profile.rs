//! The profile of a subject: what its confirmed logins have shown, bounded and coarse, and how it learns.

use crate::domain::history::names::Joined;
use crate::domain::history::names::Names;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::signals::network::Coordinates;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// Values kept for one attribute of a profile; the least recently used one makes room.
pub const VALUES_MAX: usize = 12;
/// A value that was not used for this time is no habit any more: it makes room with the next login.
pub const VALUE_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// Places kept in a profile.
pub const PLACES_MAX: usize = 6;
/// Profiles are forgotten after this time without a confirmed login.
pub const PROFILE_TTL: Duration = Duration::from_secs(180 * 24 * 3600);
/// A device that has been known for less weighs less than an old one.
pub const DEVICE_PROBATION: Duration = Duration::from_secs(30 * 24 * 3600);
/// A value is fully familiar only after it has been known for a few of these (aged newness).
pub const NEWNESS_AGE: Duration = Duration::from_secs(6 * 3600);

/// The attributes that a profile counts, as keyed hashes. `None` where the request did not show the value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Familiarity {
    /// The address (IPv6: its /64).
    pub address: Option<ValueHash>,
    /// The autonomous system.
    pub asn: Option<ValueHash>,
    /// The country.
    pub country: Option<ValueHash>,
    /// Browser and major version.
    pub agent: Option<ValueHash>,
    /// Operating system and kind of device.
    pub platform: Option<ValueHash>,
    /// First accepted language.
    pub language: Option<ValueHash>,
    /// The id in the device cookie.
    pub device: Option<ValueHash>,
    /// The TLS fingerprint (JA4), where TLS ends here.
    pub tls: Option<ValueHash>,
}

/// One value that a subject has used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownValue {
    /// The first 32 bits of the keyed hash of the value, the rest zero. That a stranger's value coincides with one of
    /// twelve has a chance of 3 in a billion, and who has not got the key cannot search for one.
    pub value: ValueHash,
    /// How many confirmed logins used it.
    pub count: u32,
    /// The first of them, to ten minutes.
    pub first: Timestamp,
    /// The latest of them, to ten minutes.
    pub last: Timestamp,
}

/// The values of one attribute, at most [`VALUES_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownValues(pub(super) Vec<KnownValue>);

/// A place from which a subject has logged in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Where it is, to a hundredth of a degree (some kilometre).
    pub coordinates: Coordinates,
    /// How many confirmed logins came from it.
    pub count: u32,
    /// The latest of them, to ten minutes.
    pub last: Timestamp,
}

/// Which devices are to be forgotten.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhichDevices {
    /// Every one.
    All,
    /// Every one but this.
    AllBut(ValueHash),
    /// This one.
    One(ValueHash),
}

/// How often a subject's confirmed logins brought something new: the habit against which novelty is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoveltyHabit {
    /// Logins without a known device cookie.
    pub cookie: u32,
    /// Logins from a new address.
    pub address: u32,
    /// Logins with a new agent.
    pub agent: u32,
    /// Logins from a new autonomous system.
    pub asn: u32,
    /// Logins with a new TLS fingerprint.
    pub tls: u32,
}

/// What is known of one subject. Written only from confirmed logins that were low-risk or stepped up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Confirmed logins.
    pub successes: u32,
    /// The first confirmed login, to the minute.
    pub first: Timestamp,
    /// The latest confirmed login, to the minute.
    pub last: Timestamp,
    /// Where the latest confirmed login came from, to a hundredth of a degree.
    pub last_coordinates: Option<Coordinates>,
    /// Addresses.
    pub addresses: KnownValues,
    /// Autonomous systems.
    pub asns: KnownValues,
    /// Countries.
    pub countries: KnownValues,
    /// Browsers with versions.
    pub agents: KnownValues,
    /// Operating systems with device kinds.
    pub platforms: KnownValues,
    /// Languages.
    pub languages: KnownValues,
    /// Device cookies.
    pub devices: KnownValues,
    /// TLS fingerprints.
    pub tls: KnownValues,
    /// Places, at most [`PLACES_MAX`].
    pub places: Vec<Place>,
    /// Confirmed logins per hour of the day (UTC).
    pub hours: [u16; 24],
    /// How often something was new.
    pub habit: NoveltyHabit,
    /// When devices were last forgotten on demand: a device cookie from before it no longer speaks for the subject. The
    /// epoch when never.
    pub forgotten: Timestamp,
    /// The names of the account, where it has more than this one, this one among them.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub names: Names,
}

/// One confirmed login, as a profile learns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    /// Whose profile.
    pub subject: SubjectKey,
    /// When it happened.
    pub at: Timestamp,
    /// What it showed.
    pub familiarity: Familiarity,
    /// Where it came from.
    pub coordinates: Option<Coordinates>,
    /// Whether the device cookie sent was known to the subject or could not have been sent. A device cookie that the
    /// gateway issues with this very login is in `familiarity.device`.
    pub cookie_known: bool,
}

impl Familiarity {
    /// The values in the order of their fields.
    pub fn values(&self) -> [Option<ValueHash>; 8] {
        [
            self.address,
            self.asn,
            self.country,
            self.agent,
            self.platform,
            self.language,
            self.device,
            self.tls,
        ]
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> [&mut Option<ValueHash>; 8] {
        [
            &mut self.address,
            &mut self.asn,
            &mut self.country,
            &mut self.agent,
            &mut self.platform,
            &mut self.language,
            &mut self.device,
            &mut self.tls,
        ]
    }
}

impl KnownValues {
    /// Values from a store; `None` for more than [`VALUES_MAX`].
    pub fn from_values(values: Vec<KnownValue>) -> Option<Self> {
        (values.len() <= VALUES_MAX).then_some(Self(values))
    }

    /// What is known of `value`.
    pub fn find(&self, value: ValueHash) -> Option<&KnownValue> {
        let value = kept(value);
        self.0.iter().find(|known| known.value == value)
    }

    /// How many logins used `value`.
    pub fn count(&self, value: ValueHash) -> u32 {
        self.find(value).map_or(0, |known| known.count)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &KnownValue> {
        self.0.iter()
    }

    /// Counts one login with `value`. The least recently used value makes room when the list is full.
    pub fn learn(&mut self, value: ValueHash, at: Timestamp) {
        let (value, at) = (kept(value), to_ten_minutes(at));
        self.0
            .retain(|known| known.value == value || at.since(known.last) < VALUE_TTL);
        if let Some(known) = self.0.iter_mut().find(|known| known.value == value) {
            known.count = known.count.saturating_add(1);
            known.last = known.last.max(at);
            return;
        }
        if self.0.len() >= VALUES_MAX
            && let Some(oldest) = self
                .0
                .iter()
                .enumerate()
                .min_by_key(|(_, known)| known.last)
                .map(|(i, _)| i)
        {
            self.0.swap_remove(oldest);
        }
        self.0.push(KnownValue {
            value,
            count: 1,
            first: at,
            last: at,
        });
    }

    /// Makes nothing later than `at`.
    pub(super) fn set_back(&mut self, at: Timestamp) {
        let at = to_ten_minutes(at);
        for known in &mut self.0 {
            (known.first, known.last) = (known.first.min(at), known.last.min(at));
        }
    }

    /// Forgets `value`.
    pub fn forget(&mut self, value: ValueHash) {
        let value = kept(value);
        self.0.retain(|known| known.value != value);
    }

    /// Gives every value the name that `name` says. What is then known twice is added up.
    pub(super) fn rename(&mut self, name: impl Fn(ValueHash) -> ValueHash) {
        let mut renamed: Vec<KnownValue> = Vec::with_capacity(self.0.len());
        for known in self.0.drain(..) {
            let value = kept(name(known.value));
            match renamed.iter_mut().find(|other| other.value == value) {
                Some(other) => {
                    other.count = other.count.saturating_add(known.count);
                    other.first = other.first.min(known.first);
                    other.last = other.last.max(known.last);
                }
                None => renamed.push(KnownValue { value, ..known }),
            }
        }
        self.0 = renamed;
    }
}

impl Profile {
    /// The known values in the order of [`Familiarity::values`].
    pub fn known(&self) -> [&KnownValues; 8] {
        [
            &self.addresses,
            &self.asns,
            &self.countries,
            &self.agents,
            &self.platforms,
            &self.languages,
            &self.devices,
            &self.tls,
        ]
    }

    /// The same, to be changed.
    pub fn known_mut(&mut self) -> [&mut KnownValues; 8] {
        [
            &mut self.addresses,
            &mut self.asns,
            &mut self.countries,
            &mut self.agents,
            &mut self.platforms,
            &mut self.languages,
            &mut self.devices,
            &mut self.tls,
        ]
    }

    /// Whether the latest login used `known`.
    pub fn is_latest(&self, known: &KnownValue) -> bool {
        known.last >= to_ten_minutes(self.last)
    }

    /// Forgets devices. Cookies that were issued before `now` no longer speak for the subject by themselves, those of the
    /// devices that stay do as long as the profile can be read.
    pub fn forget_devices(&mut self, which: WhichDevices, now: Timestamp) {
        match which {
            WhichDevices::All => self.devices = KnownValues::default(),
            WhichDevices::AllBut(device) => {
                let stays = kept(device);
                self.devices.0.retain(|known| known.value == stays);
            }
            WhichDevices::One(device) => self.devices.forget(device),
        }
        self.forgotten = self.forgotten.max(now);
    }

    /// What is left of a profile when everything is forgotten: that device cookies from before `now` count for nothing.
    pub fn forgotten(now: Timestamp) -> Self {
        Self {
            first: now,
            last: now,
            forgotten: now,
            ..Self::default()
        }
    }

    /// The profile after one more confirmed login.
    pub fn learn(&mut self, lesson: &Lesson) {
        let seen = lesson.familiarity;
        let at = to_the_minute(lesson.at);
        self.set_back(at);
        let is_new = |known: &KnownValues, value: Option<ValueHash>| {
            value.is_some_and(|v| known.find(v).is_none())
        };
        if self.successes == 0 {
            self.first = at;
        } else {
            // The first login of all brings only new things; it says nothing about habit.
            let tls_is_new = !self.tls.is_empty() && is_new(&self.tls, seen.tls);
            let brings = [
                !lesson.cookie_known,
                is_new(&self.addresses, seen.address),
                is_new(&self.agents, seen.agent),
                is_new(&self.asns, seen.asn),
                // The first fingerprint of all, where TLS has only lately come to end here, is no novelty either.
                tls_is_new,
            ];
            let habit = &mut self.habit;
            let counts = [
                &mut habit.cookie,
                &mut habit.address,
                &mut habit.agent,
                &mut habit.asn,
                &mut habit.tls,
            ];
            for (count, is_new) in counts.into_iter().zip(brings) {
                *count = count.saturating_add(u32::from(is_new));
            }
        }
        self.successes = self.successes.saturating_add(1);
        for (known, value) in self.known_mut().into_iter().zip(seen.values()) {
            if let Some(value) = value {
                known.learn(value, at);
            }
        }
        if let Some(hour) = self.hours.get_mut(lesson.at.hour_of_day()) {
            *hour = hour.saturating_add(1);
        }
        let coordinates = lesson.coordinates.map(coarse);
        if let Some(coordinates) = coordinates {
            self.learn_place(coordinates, at);
        }
        // A login that is reported late must not move the last one back.
        if at >= self.last {
            self.last = at;
            self.last_coordinates = coordinates.or(self.last_coordinates);
        }
    }

    /// The profile after the identity server has said whose names are.
    pub fn join(&mut self, joined: &Joined) {
        if joined.is_account {
            let at = to_the_minute(joined.at);
            if self.names.is_empty() {
                self.first = at;
            }
            self.set_back(at);
            self.last = self.last.max(at);
        }
        joined.names.iter().for_each(|name| self.names.add(*name));
    }

    /// Brings what is of a clock that was ahead of `at` back to it: nothing would be the latest, and no device be old, before
    /// the clock is there again. Not when devices were forgotten: `at` may be of a clock that is behind, and what somebody asked to
    /// forget must not speak again. Devices that are learnt speak all the same.
    fn set_back(&mut self, at: Timestamp) {
        if !self.last.is_ahead_of(at) {
            return;
        }
        for moment in [&mut self.first, &mut self.last] {
            *moment = at.min(*moment);
        }
        for known in self.known_mut() {
            known.set_back(at);
        }
        for place in &mut self.places {
            place.last = place.last.min(to_ten_minutes(at));
        }
    }

    fn learn_place(&mut self, coordinates: Coordinates, at: Timestamp) {
        let at = to_ten_minutes(at);
        const SAME_PLACE_KM: f32 = 50.0;
        let near = self
            .places
            .iter_mut()
            .find(|place| place.coordinates.distance_km(coordinates) <= SAME_PLACE_KM);
        if let Some(place) = near {
            place.count = place.count.saturating_add(1);
            place.last = place.last.max(at);
            return;
        }
        if self.places.len() >= PLACES_MAX
            && let Some(oldest) = self
                .places
                .iter()
                .enumerate()
                .min_by_key(|(_, place)| place.last)
                .map(|(i, _)| i)
        {
            self.places.swap_remove(oldest);
        }
        self.places.push(Place {
            coordinates,
            count: 1,
            last: at,
        });
    }
}

/// The part of a hash that a profile keeps.
pub fn kept(value: ValueHash) -> ValueHash {
    value & !0xFFFF_FFFF
}

/// When a profile began and was last used: enough for the speed of travel.
fn to_the_minute(at: Timestamp) -> Timestamp {
    rounded(at, 60_000)
}

/// Times of single values: what is told apart by them changes over hours, and this takes the fewest bytes.
fn to_ten_minutes(at: Timestamp) -> Timestamp {
    rounded(at, 600_000)
}

fn rounded(at: Timestamp, millis: i64) -> Timestamp {
    Timestamp(at.millis().div_euclid(millis).saturating_mul(millis))
}

/// Places within a profile: address databases know a city at best.
fn coarse(at: Coordinates) -> Coordinates {
    let to_hundredths = |degrees: f32| (degrees * 100.0).round() / 100.0;
    Coordinates {
        latitude: to_hundredths(at.latitude),
        longitude: to_hundredths(at.longitude),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Pseudonym;

    fn lesson(at: i64, address: u64) -> Lesson {
        Lesson {
            subject: SubjectKey(Pseudonym::from_bytes([1; 16])),
            at: Timestamp(at),
            familiarity: Familiarity {
                address: Some(address),
                ..Familiarity::default()
            },
            coordinates: Coordinates::new(59.9, 10.7),
            cookie_known: false,
        }
    }

    #[test]
    fn a_profile_is_bounded() {
        let mut profile = Profile::default();
        for i in 0..1_000 {
            profile.learn(&lesson(i * 600_000, (i as u64) << 32));
        }
        assert_eq!(profile.addresses.iter().count(), VALUES_MAX);
        assert_eq!(profile.addresses.count(999 << 32), 1);
        assert_eq!(profile.addresses.count(0), 0);
        // What was not used for long is let go, however much room there is.
        let half_a_year = 182 * 24 * 3_600_000;
        profile.learn(&lesson(half_a_year, 5 << 32));
        assert_eq!(profile.addresses.iter().count(), 1);
        profile.successes -= 1;
        profile.habit.address -= 1;
        assert_eq!(profile.places.len(), 1);
        assert_eq!(profile.successes, 1_000);
        assert_eq!(profile.habit.address, 999);
    }

    #[test]
    fn a_late_report_does_not_move_the_last_login_back() {
        let mut profile = Profile::default();
        profile.learn(&lesson(10 * 60_000, 1));
        profile.learn(&Lesson {
            coordinates: Coordinates::new(0.0, 0.0),
            ..lesson(5 * 60_000, 2)
        });
        assert_eq!(profile.last, Timestamp(10 * 60_000));
        assert_eq!(profile.last_coordinates, Coordinates::new(59.9, 10.7));
    }

    #[test]
    fn counts_of_a_strange_store_do_not_run_over() {
        let mut profile = Profile::default();
        profile.learn(&lesson(0, 1));
        let most = u32::MAX;
        profile.habit = NoveltyHabit {
            cookie: most,
            address: most,
            agent: most,
            asn: most,
            tls: most,
        };
        profile.learn(&lesson(60_000, 2));
        assert_eq!(profile.habit.address, most);
    }

    #[test]
    fn a_login_of_a_clock_that_was_ahead_does_not_stay_the_latest() {
        const DAY: i64 = 24 * 3_600_000;
        let mut profile = Profile::default();
        profile.learn(&lesson(30 * DAY, 1 << 32));
        profile.learn(&Lesson {
            coordinates: Coordinates::new(0.0, 0.0),
            ..lesson(DAY, 1 << 32)
        });
        assert_eq!(profile.last, Timestamp(DAY));
        assert_eq!(profile.last_coordinates, Coordinates::new(0.0, 0.0));
        // What was used then is no newer than what is used now.
        let known = *profile.addresses.find(1 << 32).unwrap();
        assert_eq!((known.first, known.last), (Timestamp(DAY), Timestamp(DAY)));
        assert!(profile.is_latest(&known));
    }

    /// Whether its clock was behind or that of the login before was ahead cannot be told from a lesson.
    #[test]
    fn no_lesson_lets_forgotten_devices_speak_again() {
        const HOUR: i64 = 3_600_000;
        let mut profile = Profile::default();
        profile.learn(&lesson(10 * HOUR, 1 << 32));
        profile.forget_devices(WhichDevices::All, Timestamp(10 * HOUR));
        profile.learn(&lesson(HOUR, 1 << 32));
        assert_eq!(profile.last, Timestamp(HOUR));
        assert_eq!(profile.forgotten, Timestamp(10 * HOUR));
    }
}
