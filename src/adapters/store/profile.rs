//! The bytes of a profile. There is one for every user who ever logged in, so that its size is the size of the store:
//! a value is 32 bits of its hash, its times are tens of minutes before the latest login, counts and times take as many
//! bytes as they need (LEB128), places are hundredths of a degree, and of the hours of the day only those with logins are
//! written.
//!
//! What was added later stands at the end: a profile that ends before it was written by an older version and knows
//! nothing of it. Reading is total: what is too long, out of range or not at its end is no profile.

use crate::adapters::store::codec::in_range;
use crate::domain::history::KnownValue;
use crate::domain::history::KnownValues;
use crate::domain::history::NAMES_MAX;
use crate::domain::history::Names;
use crate::domain::history::NoveltyHabit;
use crate::domain::history::PLACES_MAX;
use crate::domain::history::Place;
use crate::domain::history::Profile;
use crate::domain::history::VALUES_MAX;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::SubjectKey;
use crate::domain::signals::network::Coordinates;
use crate::domain::time::Timestamp;

const MINUTE_MS: i64 = 60_000;
const TEN_MINUTES_MS: i64 = 600_000;

/// Appends the bytes of `profile`.
pub(super) fn encode(profile: &Profile, out: &mut Vec<u8>) {
    number(out, u64::from(profile.successes));
    let last = profile.last.millis().div_euclid(MINUTE_MS);
    signed(out, last);
    signed(
        out,
        last.wrapping_sub(profile.first.millis().div_euclid(MINUTE_MS)),
    );
    signed(out, profile.forgotten.millis());
    let base = tens(profile.last);
    for known in first_lists(profile) {
        list(out, known, base);
    }
    number(out, profile.places.len() as u64);
    for place in &profile.places {
        coordinates(out, place.coordinates);
        number(out, u64::from(place.count));
        let age = base.saturating_sub(tens(place.last));
        number(out, age.max(0).cast_unsigned());
    }
    match profile.last_coordinates {
        Some(last) => {
            out.push(1);
            coordinates(out, last);
        }
        None => out.push(0),
    }
    let used = |(hour, count): (usize, &u16)| if *count > 0 { 1_u32 << hour } else { 0 };
    let mask: u32 = profile.hours.iter().enumerate().map(used).sum();
    number(out, u64::from(mask));
    for count in profile.hours.iter().filter(|count| **count > 0) {
        number(out, u64::from(*count));
    }
    let habit = profile.habit;
    for count in [habit.cookie, habit.address, habit.agent, habit.asn] {
        number(out, u64::from(count));
    }
    // Where TLS ends elsewhere and accounts have one name, nobody pays for it.
    let names = profile.names.kept();
    if !profile.tls.is_empty() || !names.is_empty() {
        list(out, &profile.tls, base);
        number(out, u64::from(habit.tls));
    }
    if !names.is_empty() {
        number(out, names.len() as u64);
        for name in names {
            out.extend_from_slice(name.0.as_bytes());
        }
    }
}

/// The lists of the first version, in their order.
fn first_lists(profile: &Profile) -> [&KnownValues; 7] {
    let [a, b, c, d, e, f, g, _tls] = profile.known();
    [a, b, c, d, e, f, g]
}

fn list(out: &mut Vec<u8>, known: &KnownValues, base: i64) {
    number(out, known.iter().count() as u64);
    for value in known.iter() {
        out.extend_from_slice(&((value.value >> 32) as u32).to_le_bytes());
        number(out, u64::from(value.count));
        let last = tens(value.last);
        number(out, base.saturating_sub(last).max(0).cast_unsigned());
        let span = last.saturating_sub(tens(value.first));
        number(out, span.max(0).cast_unsigned());
    }
}

/// The profile in `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Option<Profile> {
    let mut reader = Reader(bytes);
    let mut profile = Profile {
        successes: reader.count()?,
        ..Profile::default()
    };
    let last = reader.signed()?;
    profile.last = Timestamp(last.checked_mul(MINUTE_MS)?);
    let first = last.checked_sub(reader.signed()?)?;
    profile.first = Timestamp(first.checked_mul(MINUTE_MS)?);
    profile.forgotten = Timestamp(reader.signed()?);
    let base = tens(profile.last);
    let [a, b, c, d, e, f, g, _tls] = profile.known_mut();
    for known in [a, b, c, d, e, f, g] {
        *known = reader.list(base)?;
    }
    for _ in 0..reader.length(PLACES_MAX)? {
        profile.places.push(Place {
            coordinates: reader.coordinates()?,
            count: reader.count()?,
            last: at_tens(reader.before(base)?)?,
        });
    }
    profile.last_coordinates = match reader.bytes()? {
        [0] => None,
        [1] => Some(reader.coordinates()?),
        _ => return None,
    };
    let mask = u32::try_from(reader.number()?).ok()?;
    if mask >> profile.hours.len() != 0 {
        return None;
    }
    for (hour, count) in profile.hours.iter_mut().enumerate() {
        if mask & (1 << hour) != 0 {
            *count = u16::try_from(reader.number()?).ok()?;
        }
    }
    profile.habit = NoveltyHabit {
        cookie: reader.count()?,
        address: reader.count()?,
        agent: reader.count()?,
        asn: reader.count()?,
        tls: 0,
    };
    if !reader.0.is_empty() {
        profile.tls = reader.list(base)?;
        profile.habit.tls = reader.count()?;
    }
    if !reader.0.is_empty() {
        let count = reader.length(NAMES_MAX + 1)?;
        if count == 0 {
            return None;
        }
        let name = |_| Some(SubjectKey(Pseudonym::from_bytes(reader.bytes()?)));
        let names: Option<Vec<_>> = (0..count).map(name).collect();
        profile.names = Names::from_names(names?)?;
    }
    reader.0.is_empty().then_some(profile)
}

fn tens(at: Timestamp) -> i64 {
    at.millis().div_euclid(TEN_MINUTES_MS)
}

fn at_tens(tens: i64) -> Option<Timestamp> {
    tens.checked_mul(TEN_MINUTES_MS).map(Timestamp)
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7F) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Small numbers of either sign take few bytes.
fn signed(out: &mut Vec<u8>, value: i64) {
    number(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Two little-endian numbers of 16 bits: hundredths of a degree.
fn coordinates(out: &mut Vec<u8>, at: Coordinates) {
    for degrees in [at.latitude, at.longitude] {
        out.extend_from_slice(&((degrees * 100.0).round() as i16).to_le_bytes());
    }
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.bytes()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A moment that lies a number before `base`.
    fn before(&mut self, base: i64) -> Option<i64> {
        base.checked_sub(i64::try_from(self.number()?).ok()?)
    }

    fn list(&mut self, base: i64) -> Option<KnownValues> {
        let len = self.length(VALUES_MAX)?;
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            let value = u64::from(u32::from_le_bytes(self.bytes()?)) << 32;
            let count = self.count()?;
            let last = self.before(base)?;
            let first = self.before(last)?;
            values.push(KnownValue {
                value,
                count,
                first: at_tens(first)?,
                last: at_tens(last)?,
            });
        }
        KnownValues::from_values(values)
    }

    fn count(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn length(&mut self, most: usize) -> Option<usize> {
        let length = usize::try_from(self.number()?).ok()?;
        (length <= most).then_some(length)
    }

    fn coordinates(&mut self) -> Option<Coordinates> {
        let mut degrees = || Some(f32::from(i16::from_le_bytes(self.bytes()?)) / 100.0);
        let at = Coordinates {
            latitude: degrees()?,
            longitude: degrees()?,
        };
        in_range(at).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::history::Familiarity;
    use crate::domain::history::Lesson;
    use crate::domain::history::WhichDevices;
    use crate::domain::ids::Pseudonym;
    use crate::domain::ids::SubjectKey;
    use proptest::prelude::*;

    fn learnt(lessons: &[(i64, [Option<u64>; 8], f32, bool)]) -> Profile {
        let mut profile = Profile::default();
        for (at, values, degrees, cookie_known) in lessons {
            let mut familiarity = Familiarity::default();
            for (to, from) in familiarity.values_mut().into_iter().zip(values) {
                *to = *from;
            }
            profile.learn(&Lesson {
                subject: SubjectKey(Pseudonym::from_bytes([1; 16])),
                at: Timestamp(*at),
                familiarity,
                coordinates: Coordinates::new(*degrees / 2.0, *degrees),
                cookie_known: *cookie_known,
            });
        }
        profile
    }

    fn name(number: u8) -> SubjectKey {
        SubjectKey(Pseudonym::from_bytes([number; 16]))
    }

    impl Profile {
        fn without_names(mut self) -> Self {
            self.names = Names::default();
            self
        }

        fn without_tls(mut self) -> Self {
            self.tls = KnownValues::default();
            self.habit.tls = 0;
            self.without_names()
        }
    }

    #[test]
    fn a_profile_from_before_tls_fingerprints_is_read() {
        let all = [Some(7 << 32); 8];
        let profile = learnt(&[(0, all, 10.0, true), (86_400_000, all, 10.0, true)]);
        let before = profile.clone().without_tls();
        let (mut new, mut old) = (Vec::new(), Vec::new());
        encode(&profile, &mut new);
        encode(&before, &mut old);
        assert_eq!(decode(&old), Some(before));
        assert!(new.starts_with(&old) && new.len() <= old.len() + 12);
    }

    #[test]
    fn a_profile_from_before_accounts_had_names_is_read() {
        for tls in [None, Some(7 << 32)] {
            let mut values = [Some(7 << 32); 8];
            *values.last_mut().unwrap() = tls;
            let mut profile = learnt(&[(0, values, 10.0, true)]);
            let before = profile.clone();
            profile.names.add(name(1));
            profile.names.add(name(2));
            let (mut new, mut old) = (Vec::new(), Vec::new());
            encode(&profile, &mut new);
            encode(&before, &mut old);
            assert_eq!(decode(&old), Some(before));
            assert_eq!(decode(&new), Some(profile));
            assert!(new.starts_with(&old) && new.len() <= old.len() + 2 + 33);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_learnt_survives(
            lessons in proptest::collection::vec(
                (-1_000_000_000..4_000_000_000_000_i64, any::<[Option<u64>; 8]>(), -180.0..180.0_f32, any::<bool>()),
                0..24,
            ),
            forgotten in any::<Option<i32>>(),
            names in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut profile = learnt(&lessons);
            names.into_iter().for_each(|number| profile.names.add(name(number)));
            if let Some(at) = forgotten {
                profile.forget_devices(WhichDevices::All, Timestamp(i64::from(at)));
            }
            let mut bytes = Vec::new();
            encode(&profile, &mut bytes);
            prop_assert_eq!(decode(&bytes), Some(profile.clone()));
            // What ends before TLS fingerprints or names were kept is whole.
            let before = [profile.clone().without_tls(), profile.clone().without_names()];
            for cut in (0..bytes.len()).step_by(11) {
                let read = decode(&bytes[..cut]);
                prop_assert!(read.is_none_or(|read| before.contains(&read)), "{}", cut);
            }
            bytes.push(0);
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(profile) = decode(&bytes) {
                prop_assert!(profile.places.len() <= PLACES_MAX);
                prop_assert!(profile.names.kept().len() <= NAMES_MAX + 1);
                prop_assert!(profile.known().iter().all(|known| known.iter().count() <= VALUES_MAX));
            }
        }
    }

    #[test]
    fn numbers_of_every_size_survive() {
        for value in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN, 1 << 40] {
            let mut bytes = Vec::new();
            signed(&mut bytes, value);
            assert_eq!(Reader(&bytes).signed(), Some(value));
        }
        assert_eq!(Reader(&[0xFF; 9]).number(), None);
        assert_eq!(
            Reader(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2]).number(),
            None
        );
    }
}
