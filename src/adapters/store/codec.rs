//! How profiles, baselines, links and tickets are written: a version byte, the fields (a profile in a form of its own,
//! the others by postcard), and for a store that others can write to a MAC that
//! binds the value to its key. What does not open reads as missing; nothing here fails loudly.

use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::SCHEMA;
use crate::adapters::store::profile;
use crate::adapters::store::sketch::Windows;
use crate::domain::demand::Demand;
use crate::domain::demand::KEYS_MAX;
use crate::domain::demand::WINDOW_MAX;
use crate::domain::history::ClientBaseline;
use crate::domain::history::PROFILE_TTL;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::history::ScopeUsage;
use crate::domain::history::TokenFamily;
use crate::domain::history::TokenRequest;
use crate::domain::history::VALUES_MAX;
use crate::domain::history::client::SCOPES_MAX;
use crate::domain::history::scopes::Further;
use crate::domain::ids::Pseudonym;
use crate::domain::mac::HmacSha256;
use crate::domain::mac::hmac_sha256;
use crate::domain::review::HeldLogin;
use crate::domain::review::ReviewQueue;
use crate::domain::secret::Secret;
use crate::domain::signals::network::Coordinates;
use crate::domain::time::Timestamp;
use hmac::Mac;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// The longest value that is written or read. A full profile takes some 4 KiB.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;
/// The same for the scopes of a client with those of its groups; a full one with the longest names fits.
pub const SCOPES_BYTES_MAX: usize = 112 * 1024;
/// The same for the queue of held logins, of which there is one.
pub const QUEUE_BYTES_MAX: usize = 512 * 1024;
/// The bytes kept of HMAC-SHA-256 (RFC 2104 allows truncation to half and more; 96 bits as in RFC 4868's families
/// leave an attacker who can only try against a live gateway nothing to gain).
pub const TAG_BYTES: usize = 12;
/// What tells the seal of a line from that of a value, which is over the schema first.
const LINE: &[u8] = b"a line of a stream\0";
/// Most links take no more than this.
const USUAL_LINK_BYTES: usize = 1_024;
/// Reasons kept with a link.
const REASONS_MAX: usize = 32;

/// The queue of held logins does not open: it is of another secret or of a newer version, or damaged. To begin anew would lose
/// the logins that are held there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unreadable;

/// Writes and reads values.
#[derive(Clone)]
pub struct Codec {
    mac: Option<HmacSha256>,
    previous: Option<HmacSha256>,
}

#[derive(Deserialize, Serialize)]
struct Link<P> {
    expires: Timestamp,
    provenance: P,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec(…)")
    }
}

impl Codec {
    /// For a store that nobody else writes to.
    pub fn plain() -> Self {
        Self {
            mac: None,
            previous: None,
        }
    }

    /// For a store that others may write to. The key for values is derived from `key`, so that one secret of the
    /// gateway can serve several purposes.
    pub fn sealed(key: &Secret<Vec<u8>>) -> Self {
        let derived = hmac_sha256(key.expose())
            .chain_update(b"riskgate state values 1")
            .finalize()
            .into_bytes();
        Self {
            mac: Some(hmac_sha256(&derived)),
            previous: None,
        }
    }

    /// The same, opening what was sealed with the key before this one as well.
    pub fn sealed_since(key: &Secret<Vec<u8>>, previous: Option<&Secret<Vec<u8>>>) -> Self {
        Self {
            previous: previous.and_then(|previous| Self::sealed(previous).mac),
            ..Self::sealed(key)
        }
    }

    /// A number that changes with the key.
    pub fn names(&self) -> u64 {
        self.mac.as_ref().map_or(0, |mac| {
            let digest = mac.clone().chain_update(b"names").finalize().into_bytes();
            digest
                .iter()
                .take(8)
                .fold(0, |number, byte| (number << 8) | u64::from(*byte))
        })
    }

    /// A profile as bytes; `None` if it is too long to be kept.
    pub fn profile(&self, key: &EntryKey, profile: &Profile) -> Option<Vec<u8>> {
        let mut bytes = vec![SCHEMA];
        profile::encode(profile, &mut bytes);
        self.sign(key, bytes)
    }

    /// The profile in `bytes`, if it is whole and not expired at `now`.
    pub fn open_profile(&self, key: &EntryKey, bytes: &[u8], now: Timestamp) -> Option<Profile> {
        let profile = profile::decode(self.body(key, bytes)?)?;
        (now.since(profile.last) < PROFILE_TTL).then_some(profile)
    }

    /// A baseline as bytes; `None` if it is too long to be kept.
    pub fn client(&self, key: &EntryKey, client: &ClientBaseline) -> Option<Vec<u8>> {
        self.seal(key, client)
    }

    /// The baseline in `bytes`, if it is whole and not expired at `now`.
    pub fn open_client(
        &self,
        key: &EntryKey,
        bytes: &[u8],
        now: Timestamp,
    ) -> Option<ClientBaseline> {
        let client: ClientBaseline = self.open(key, bytes)?;
        let lists = [&client.scopes, &client.prefixes, &client.tls];
        let numbers = [
            client.rate,
            client.mean,
            client.mean_square,
            client.volume,
            client.peak.usual,
            client.peak.current,
            client.volume_peak.usual,
            client.volume_peak.current,
        ];
        let sound = numbers
            .iter()
            .all(|number| (0.0..=f32::MAX).contains(number))
            && client.gap.is_finite()
            && lists.iter().all(|list| list.iter().count() <= VALUES_MAX);
        (sound && now.since(client.last) < PROFILE_TTL).then_some(client)
    }

    /// The scopes of a client as bytes; `None` if they are too long to be kept.
    pub fn scopes(&self, key: &EntryKey, usage: &ScopeUsage) -> Option<Vec<u8>> {
        let mut bytes = postcard::to_extend(usage, vec![version(key.kind)]).ok()?;
        if usage.further != Further::default() {
            bytes = postcard::to_extend(&usage.further, bytes).ok()?;
        }
        self.sign(key, bytes)
    }

    /// The scopes in `bytes`, if they are whole and not expired at `now`.
    pub fn open_scopes(&self, key: &EntryKey, bytes: &[u8], now: Timestamp) -> Option<ScopeUsage> {
        let body = self.body(key, bytes)?;
        let (mut usage, rest) = postcard::take_from_bytes::<ScopeUsage>(body).ok()?;
        // What was written before groups were looked at has nothing more.
        if !rest.is_empty() {
            let (further, rest) = postcard::take_from_bytes::<Further>(rest).ok()?;
            rest.is_empty().then_some(())?;
            usage.further = further;
        }
        (usage.is_sound() && now.since(usage.last) < PROFILE_TTL).then_some(usage)
    }

    /// What a ticket is bound to and when it ends, as bytes.
    pub fn ticket(
        &self,
        key: &EntryKey,
        binding: Pseudonym,
        expires: Timestamp,
    ) -> Option<Vec<u8>> {
        self.seal(key, &(binding, expires))
    }

    /// When the ticket in `bytes` ends, if it is whole.
    pub fn ticket_end(&self, key: &EntryKey, bytes: &[u8]) -> Option<Timestamp> {
        let (_, expires) = self.open::<(Pseudonym, Timestamp)>(key, bytes)?;
        Some(expires)
    }

    /// Whether `bytes` are a ticket that is bound to `binding` and has not ended at `now`.
    pub fn is_ticket(
        &self,
        key: &EntryKey,
        bytes: &[u8],
        binding: Pseudonym,
        now: Timestamp,
    ) -> bool {
        self.open::<(Pseudonym, Timestamp)>(key, bytes)
            .is_some_and(|(bound, expires)| bound == binding && now < expires)
    }

    /// A link as bytes; `None` if it is too long to be kept.
    pub fn link(
        &self,
        key: &EntryKey,
        provenance: &Provenance,
        expires: Timestamp,
    ) -> Option<Vec<u8>> {
        let link = Link {
            expires,
            provenance,
        };
        // Nearly all of them fit, and fields are written into a buffer of fixed size in half the time.
        let mut bytes = vec![0; USUAL_LINK_BYTES];
        let (head, room) = bytes.split_first_mut()?;
        *head = version(key.kind);
        match postcard::to_slice(&link, room).map(|used| 1 + used.len()) {
            Ok(length) => bytes.truncate(length),
            Err(_) => bytes = postcard::to_extend(&link, vec![version(key.kind)]).ok()?,
        }
        if let Some(request) = &provenance.token_request {
            bytes = postcard::to_extend(request, bytes).ok()?;
            if let Some(organization) = request.organization {
                bytes = postcard::to_extend(&organization, bytes).ok()?;
            }
        }
        self.sign(key, bytes)
    }

    /// The provenance in `bytes`, if it is whole and not expired at `now`.
    pub fn open_link(&self, key: &EntryKey, bytes: &[u8], now: Timestamp) -> Option<Provenance> {
        let body = self.body(key, bytes)?;
        let (mut link, rest) = postcard::take_from_bytes::<Link<Provenance>>(body).ok()?;
        // What follows is the token request, and its organization: not every link has them, and links of before have none.
        if !rest.is_empty() {
            let (mut request, rest) = postcard::take_from_bytes::<TokenRequest>(rest).ok()?;
            if !rest.is_empty() {
                let (organization, rest) = postcard::take_from_bytes(rest).ok()?;
                rest.is_empty().then_some(())?;
                request.organization = Some(organization);
            }
            request.is_sound().then_some(())?;
            link.provenance.token_request = Some(Box::new(request));
        }
        let sound = link.provenance.reasons.len() <= REASONS_MAX
            && link.provenance.coordinates.is_none_or(in_range)
            && link.provenance.used_from.is_none_or(in_range)
            && link.provenance.score.is_none_or(|score| score <= 100)
            && link.provenance.demand_keys.len() <= KEYS_MAX
            && link.provenance.login_score.is_none_or(|score| score <= 100)
            && link.provenance.scopes.len() <= SCOPES_MAX
            && link
                .provenance
                .family
                .as_deref()
                .is_none_or(TokenFamily::is_sound);
        (sound && now < link.expires).then_some(link.provenance)
    }

    /// A demand as bytes.
    pub fn demand(&self, key: &EntryKey, demand: &Demand) -> Option<Vec<u8>> {
        self.seal(key, demand)
    }

    /// The demand in `bytes`, if it is whole and has not ended at `now`.
    pub fn open_demand(&self, key: &EntryKey, bytes: &[u8], now: Timestamp) -> Option<Demand> {
        let demand: Demand = self.open(key, bytes)?;
        let longest = demand.at.max(now).plus(WINDOW_MAX);
        let sound = demand.points <= 100 && demand.until <= longest;
        (sound && now < demand.until).then_some(demand)
    }

    /// The queue of held logins as bytes; `None` if it is too long to be kept.
    pub fn queue(&self, queue: &ReviewQueue) -> Option<Vec<u8>> {
        self.seal(&EntryKey::review(), queue)
    }

    /// The queue in `bytes`, if it is whole.
    pub fn open_queue(&self, bytes: &[u8]) -> Option<ReviewQueue> {
        let items: Vec<HeldLogin> = self.open(&EntryKey::review(), bytes)?;
        ReviewQueue::from_items(items)
    }

    /// The queue that is kept, empty where none is. Unlike any other value it is not replaced where it does not open.
    pub fn kept_queue(&self, kept: Option<&[u8]>) -> Result<ReviewQueue, Unreadable> {
        match kept {
            None => Ok(ReviewQueue::default()),
            Some(bytes) => self.open_queue(bytes).ok_or(Unreadable),
        }
    }

    /// Windows of distinct values as bytes.
    pub fn windows(&self, key: &EntryKey, windows: &Windows) -> Option<Vec<u8>> {
        self.seal(key, windows)
    }

    /// The windows in `bytes`, if they are whole.
    pub fn open_windows(&self, key: &EntryKey, bytes: &[u8]) -> Option<Windows> {
        self.open(key, bytes).filter(Windows::is_sound)
    }

    fn seal<T: Serialize>(&self, key: &EntryKey, value: &T) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usual_bytes(key.kind));
        bytes.push(version(key.kind));
        self.sign(key, postcard::to_extend(value, bytes).ok()?)
    }

    /// The seal of a line that goes to others as it is; empty without a key.
    pub fn seal_of_line(&self, line: &[u8]) -> Vec<u8> {
        let tag = self.mac.as_ref().map(|mac| {
            let mac = mac.clone().chain_update(LINE).chain_update(line);
            mac.finalize().into_bytes().to_vec()
        });
        tag.unwrap_or_default()
    }

    /// Whether one of the fleet has sealed `line`.
    pub fn is_sealed(&self, line: &[u8], seal: &[u8]) -> bool {
        let mut macs = self.mac.iter().chain(&self.previous);
        macs.any(|mac| {
            let mac = mac.clone().chain_update(LINE).chain_update(line);
            mac.verify_slice(seal).is_ok()
        })
    }

    fn sign(&self, key: &EntryKey, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        if let Some(mac) = &self.mac {
            let tag = mac
                .clone()
                .chain_update(key.binding())
                .chain_update(&bytes)
                .finalize()
                .into_bytes();
            bytes.extend(tag.into_iter().take(TAG_BYTES));
        }
        (bytes.len() <= bytes_max(key)).then_some(bytes)
    }

    fn open<T: DeserializeOwned>(&self, key: &EntryKey, bytes: &[u8]) -> Option<T> {
        let (value, rest) = postcard::take_from_bytes(self.body(key, bytes)?).ok()?;
        rest.is_empty().then_some(value)
    }

    /// What lies between the version and the MAC, once both are right.
    fn body<'b>(&self, key: &EntryKey, bytes: &'b [u8]) -> Option<&'b [u8]> {
        if bytes.len() > bytes_max(key) {
            return None;
        }
        let body = match &self.mac {
            None => bytes,
            Some(mac) => {
                let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
                let is_of = |mac: &HmacSha256| {
                    mac.clone()
                        .chain_update(key.binding())
                        .chain_update(body)
                        .verify_truncated_left(tag)
                        .is_ok()
                };
                if !is_of(mac) && !self.previous.as_ref().is_some_and(is_of) {
                    return None;
                }
                body
            }
        };
        let (found, body) = body.split_first()?;
        (*found == version(key.kind)).then_some(body)
    }
}

/// The version of the encoding of a kind. Links and baselines of before, which knew less, read as missing: a token of
/// then is one that was not issued here, and a service account begins anew.
fn version(kind: Kind) -> u8 {
    match kind {
        Kind::Client => SCHEMA + 1,
        Kind::Link(_) => SCHEMA + 2,
        Kind::Address
        | Kind::Addresses
        | Kind::Agent
        | Kind::AutonomousSystem
        | Kind::Demand(_)
        | Kind::Prefix
        | Kind::Profile
        | Kind::Review
        | Kind::Scopes
        | Kind::Subject
        | Kind::Tenant
        | Kind::Ticket
        | Kind::Trusted
        | Kind::Users => SCHEMA,
    }
}

/// Room for most values of a kind, so that writing one rarely grows its buffer.
fn usual_bytes(kind: Kind) -> usize {
    match kind {
        Kind::Profile => 512,
        _ => 96,
    }
}

fn bytes_max(key: &EntryKey) -> usize {
    match key.kind {
        Kind::Review => QUEUE_BYTES_MAX,
        Kind::Scopes => SCOPES_BYTES_MAX,
        _ => VALUE_BYTES_MAX,
    }
}

pub(super) fn in_range(coordinates: Coordinates) -> bool {
    Coordinates::new(coordinates.latitude, coordinates.longitude).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::history::Familiarity;
    use crate::domain::history::Lesson;
    use crate::domain::history::ScopeUse;
    use crate::domain::history::scopes::Bearers;
    use crate::domain::history::scopes::Groups;
    use crate::domain::ids::Pseudonym;
    use crate::domain::ids::SubjectKey;
    use proptest::prelude::*;

    fn subject(n: u8) -> SubjectKey {
        SubjectKey(Pseudonym::from_bytes([n; 16]))
    }

    fn profile() -> Profile {
        let mut profile = Profile::default();
        for n in 0..3 {
            let hash = 0x9E37_79B9_7F4A_7C15 ^ n;
            profile.learn(&Lesson {
                subject: subject(1),
                at: Timestamp(1_700_000_000_000 + n as i64),
                familiarity: Familiarity {
                    address: Some(hash),
                    device: Some(hash),
                    ..Familiarity::default()
                },
                coordinates: Coordinates::new(59.9, 10.7),
                cookie_known: true,
            });
        }
        profile
    }

    #[test]
    fn scopes_of_before_groups_were_looked_at_are_read_as_they_are() {
        let client = subject(2);
        let key = EntryKey::subject(Kind::Scopes, client);
        let now = Timestamp(1_700_000_000_000);
        let mut used = ScopeUse::new(client, "app", "t", Bearers::Users, now).unwrap();
        used.grant(["read"].into_iter(), &Groups::default(), now);
        let mut usage = ScopeUsage::default();
        usage.learn(&used);
        for codec in codecs() {
            let old = codec
                .sign(
                    &key,
                    postcard::to_extend(&usage, vec![version(key.kind)]).unwrap(),
                )
                .unwrap();
            assert_eq!(codec.scopes(&key, &usage).as_ref(), Some(&old));
            assert_eq!(codec.open_scopes(&key, &old, now).as_ref(), Some(&usage));
            // What follows must be whole, and nothing may follow it.
            let mut more = usage.clone();
            more.further.crowded = now;
            let new = codec.scopes(&key, &more).unwrap();
            assert_eq!(codec.open_scopes(&key, &new, now), Some(more.clone()));
            let body = postcard::to_extend(&usage, vec![version(key.kind)]).unwrap();
            for rest in [&[0][..], &[0; 5], &[0; 6], &[1; 40]] {
                let bytes = codec.sign(&key, [&body, rest].concat()).unwrap();
                let opened = codec.open_scopes(&key, &bytes, now);
                assert_eq!(opened.is_some(), rest == [0; 5], "{rest:?}");
            }
        }
    }

    fn codecs() -> [Codec; 2] {
        [Codec::plain(), Codec::sealed(&Secret::new(b"key".to_vec()))]
    }

    #[test]
    fn a_profile_survives_and_expires() {
        let key = EntryKey::subject(Kind::Profile, subject(1));
        for codec in codecs() {
            let bytes = codec.profile(&key, &profile()).unwrap();
            let last = profile().last;
            assert_eq!(codec.open_profile(&key, &bytes, last), Some(profile()));
            assert_eq!(
                codec.open_profile(&key, &bytes, last.plus(PROFILE_TTL)),
                None
            );
        }
    }

    #[test]
    fn a_sealed_value_opens_only_under_its_own_key() {
        let key = EntryKey::subject(Kind::Profile, subject(1));
        let [_, codec] = codecs();
        let bytes = codec.profile(&key, &profile()).unwrap();
        let now = profile().last;
        assert_eq!(
            codec.open_profile(&EntryKey::subject(Kind::Profile, subject(2)), &bytes, now),
            None
        );
        assert_eq!(
            codec.open_profile(&EntryKey::subject(Kind::Subject, subject(1)), &bytes, now),
            None
        );
        let other = Codec::sealed(&Secret::new(b"other".to_vec()));
        assert_eq!(other.open_profile(&key, &bytes, now), None);
        for place in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[place] ^= 1;
            assert_eq!(codec.open_profile(&key, &bad, now), None, "byte {place}");
        }
    }

    #[test]
    fn a_typical_profile_is_small() {
        let key = EntryKey::subject(Kind::Profile, subject(1));
        let [_, codec] = codecs();
        assert!(codec.profile(&key, &profile()).unwrap().len() < 150);
    }

    #[test]
    fn what_the_previous_key_sealed_opens_as_well() {
        let key = EntryKey::subject(Kind::Profile, subject(1));
        let (old, new) = (Secret::new(b"old".to_vec()), Secret::new(b"new".to_vec()));
        let bytes = Codec::sealed(&old).profile(&key, &profile()).unwrap();
        let now = profile().last;
        let both = Codec::sealed_since(&new, Some(&old));
        assert_eq!(both.open_profile(&key, &bytes, now), Some(profile()));
        assert_eq!(Codec::sealed(&new).open_profile(&key, &bytes, now), None);
        // What is written now is of the new key.
        let bytes = both.profile(&key, &profile()).unwrap();
        assert_eq!(
            Codec::sealed(&new).open_profile(&key, &bytes, now),
            Some(profile())
        );
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), flips in any::<[(u16, u8); 4]>()) {
            let key = EntryKey::subject(Kind::Profile, subject(1));
            let mut changed = Codec::plain().profile(&key, &profile()).unwrap();
            for (place, byte) in flips {
                let place = usize::from(place) % changed.len();
                changed[place] ^= byte;
            }
            for codec in codecs() {
                for bytes in [&bytes, &changed] {
                    if let Some(profile) = codec.open_profile(&key, bytes, Timestamp(0)) {
                        prop_assert!(profile.places.len() <= crate::domain::history::PLACES_MAX);
                    }
                    let _ = codec.open_link(&key, bytes, Timestamp(0));
                    let _ = codec.open_demand(&key, bytes, Timestamp(0));
                    let _ = codec.open_windows(&key, bytes);
                }
            }
            let [_, sealed] = codecs();
            prop_assert_eq!(sealed.open_profile(&key, &bytes, Timestamp(0)), None);
        }
    }
}
