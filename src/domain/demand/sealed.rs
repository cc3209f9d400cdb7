//! The copy of its demands that a browser keeps: sealed, so that it can neither be read nor changed, and bound to tenant
//! and client. It stands in when the store is away, and says how often the browser was sent round lately. What does not
//! open is as good as none.

use crate::domain::demand::Demand;
use crate::domain::demand::WINDOW_MAX;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::signals::session::cookie_values;
use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::AeadInOut;
use chacha20poly1305::KeyInit;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::XNonce;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use std::fmt;
use std::time::Duration;

/// The name of the cookie. The prefix binds it to this host and to TLS (RFC 6265bis section 4.1.3.2).
pub const DEMAND_COOKIE: &str = "__Host-rg_demand";
/// Within this time a browser's redirects are counted.
pub const HOPS_WINDOW: Duration = Duration::from_secs(300);
/// The bytes of chance that each seal needs: so many that no two seals share them (XChaCha20-Poly1305).
pub const NONCE_BYTES: usize = 24;
/// Copies in one cookie; the one that ends first makes room.
pub const COPIES_MAX: usize = 4;

const VERSION: u8 = 1;
const ENCODED_BYTES_MAX: usize = 1_024;

/// What a browser brings.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct BrowserDemands {
    /// The random id of the browser, for the keys of its demands.
    pub browser: [u8; 16],
    /// Its demands, at most [`COPIES_MAX`].
    pub copies: Vec<DemandCopy>,
}

/// The demand of one client.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct DemandCopy {
    /// The tenant, as a keyed hash.
    pub tenant: ValueHash,
    /// The client, where it was known.
    pub client: Option<SubjectKey>,
    /// The demand.
    pub demand: Demand,
    /// How often the browser was sent to the authorize endpoint with it since `sent_since`.
    pub sent: u8,
    /// When it was sent first.
    pub sent_since: Timestamp,
}

/// Seals and opens the cookie: an AEAD under the present secret, and under the one before it for opening.
#[derive(Clone)]
pub struct DemandCookieKey {
    cipher: XChaCha20Poly1305,
    id: u8,
    previous: Option<Box<DemandCookieKey>>,
}

impl BrowserDemands {
    /// Nothing yet, for a browser with this id.
    pub fn new(browser: [u8; 16]) -> Self {
        Self {
            browser,
            copies: Vec::new(),
        }
    }

    /// The copy for a client, or for any client of the tenant where the client is not known.
    pub fn find(&self, tenant: ValueHash, client: Option<SubjectKey>) -> Option<&DemandCopy> {
        self.copies.iter().find(|copy| copy.is_of(tenant, client))
    }

    /// Puts `copy` in the place of the one for the same client.
    pub fn put(&mut self, copy: DemandCopy) {
        self.copies
            .retain(|known| known.tenant != copy.tenant || known.client != copy.client);
        self.copies.push(copy);
        if self.copies.len() > COPIES_MAX
            && let Some(first) = self
                .copies
                .iter()
                .enumerate()
                .min_by_key(|(_, copy)| copy.demand.until)
                .map(|(place, _)| place)
        {
            self.copies.swap_remove(first);
        }
    }

    /// When the last of the demands ends.
    pub fn until(&self) -> Timestamp {
        let ends = self.copies.iter().map(|copy| copy.demand.until);
        ends.max().unwrap_or_default()
    }
}

impl DemandCopy {
    /// How often the browser was sent round within the [`HOPS_WINDOW`] that `now` falls into.
    pub fn sent_at(&self, now: Timestamp) -> u8 {
        if now.since(self.sent_since) < HOPS_WINDOW && !self.sent_since.is_ahead_of(now) {
            self.sent
        } else {
            0
        }
    }

    fn is_of(&self, tenant: ValueHash, client: Option<SubjectKey>) -> bool {
        let same = self.client.is_none() || client.is_none() || self.client == client;
        self.tenant == tenant && same
    }
}

impl DemandCookieKey {
    /// A key from secret bytes of any length.
    pub fn new(key: &[u8]) -> Self {
        let key = Sha256::digest(key);
        let id = Sha256::digest(key).first().copied().unwrap_or_default();
        Self {
            cipher: XChaCha20Poly1305::new(&<[u8; 32]>::from(key).into()),
            id,
            previous: None,
        }
    }

    /// The same, opening what was sealed under the secret before this one as well.
    pub fn with_previous(mut self, previous: Option<&[u8]>) -> Self {
        self.previous = previous.map(|key| Box::new(Self::new(key)));
        self
    }

    /// The value of the cookie; `None` only if the state could not be written, which has a fixed size.
    pub fn seal(&self, state: &BrowserDemands, nonce: [u8; NONCE_BYTES]) -> Option<String> {
        let mut sealed = postcard::to_extend(state, Vec::new()).ok()?;
        self.cipher
            .encrypt_in_place(&XNonce::from(nonce), &self.bound_to(), &mut sealed)
            .ok()?;
        let mut bytes = vec![VERSION, self.id];
        bytes.extend_from_slice(&nonce);
        bytes.append(&mut sealed);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Opens a cookie value. Demands that have ended at `now` are left out.
    pub fn open(&self, value: &str, now: Timestamp) -> Option<BrowserDemands> {
        if value.len() > ENCODED_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (head, rest) = bytes.split_first_chunk::<2>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let [version, id] = *head;
        if version != VERSION {
            return None;
        }
        let open = |key: &Self| {
            let mut text = sealed.to_vec();
            let nonce = XNonce::from(*nonce);
            (key.id == id
                && key
                    .cipher
                    .decrypt_in_place(&nonce, &key.bound_to(), &mut text)
                    .is_ok())
            .then_some(text)
        };
        let text = open(self).or_else(|| open(self.previous.as_deref()?))?;
        let mut state: BrowserDemands = postcard::from_bytes(&text).ok()?;
        state.copies.truncate(COPIES_MAX);
        state.copies.retain_mut(|copy| {
            let demand = &copy.demand;
            let sound = now < demand.until && demand.until <= demand.at.max(now).plus(WINDOW_MAX);
            let demand = demand.brought_back(now);
            copy.demand = demand.unwrap_or(copy.demand);
            sound && demand.is_some()
        });
        Some(state)
    }

    fn bound_to(&self) -> Vec<u8> {
        [DEMAND_COOKIE.as_bytes(), &[VERSION, self.id]].concat()
    }
}

impl fmt::Debug for DemandCookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DemandCookieKey(…)")
    }
}

/// What the browser of a request brings; `None` for no cookie, one that does not open, or two, which no browser sends.
pub fn browser_demands(
    headers: &http::HeaderMap,
    key: &DemandCookieKey,
    now: Timestamp,
) -> Option<BrowserDemands> {
    let mut values = cookie_values(headers, DEMAND_COOKIE);
    match (values.next(), values.next()) {
        (Some(value), None) => key.open(value, now),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::demand::DemandChange;
    use crate::domain::demand::Raise;
    use crate::domain::ids::Pseudonym;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn copy(client: u8, minutes: u64) -> DemandCopy {
        let raise = Raise {
            at: NOW,
            until: NOW.plus(Duration::from_secs(60 * minutes)),
            points: 42,
            about: None,
        };
        DemandCopy {
            tenant: u64::MAX,
            client: Some(SubjectKey(Pseudonym::from_bytes([client; 16]))),
            demand: DemandChange::Challenged(raise).apply(None),
            sent: 1,
            sent_since: NOW,
        }
    }

    fn state() -> BrowserDemands {
        let mut state = BrowserDemands::new([7; 16]);
        state.put(copy(1, 10));
        state
    }

    #[test]
    fn a_sealed_state_opens_again_under_both_secrets() {
        let key = DemandCookieKey::new(b"k");
        let value = key.seal(&state(), [1; NONCE_BYTES]).unwrap();
        assert_eq!(key.open(&value, NOW), Some(state()));
        let next = DemandCookieKey::new(b"next").with_previous(Some(b"k"));
        assert_eq!(next.open(&value, NOW), Some(state()));
        assert_eq!(DemandCookieKey::new(b"next").open(&value, NOW), None);
    }

    #[test]
    fn a_copy_of_a_clock_that_was_ahead_is_owed_from_now_on() {
        let key = DemandCookieKey::new(b"k");
        let value = key.seal(&state(), [1; NONCE_BYTES]).unwrap();
        let now = Timestamp(NOW.millis() - 3 * 24 * 3_600_000);
        let open = key.open(&value, now).unwrap();
        let copy = open.copies.first().unwrap();
        assert_eq!((copy.demand.at, copy.demand.challenges), (now, 0));
        assert_eq!(open.until(), now.plus(Duration::from_secs(600)));
        assert_eq!(copy.sent_at(now), 0);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = DemandCookieKey::new(b"k").with_previous(Some(b"before"));
        let value = key.seal(&state(), [1; NONCE_BYTES]).unwrap();
        let sealed = URL_SAFE_NO_PAD.decode(value).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(bytes), NOW), None, "{bit}");
        }
        for cut in 0..sealed.len() {
            assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(&sealed[..cut]), NOW), None);
        }
        assert_eq!(key.open(&"A".repeat(100_000), NOW), None);
    }

    #[test]
    fn nothing_of_it_can_be_read_and_no_two_are_alike() {
        let key = DemandCookieKey::new(b"k");
        let one = key.seal(&state(), [1; NONCE_BYTES]).unwrap();
        let other = key.seal(&state(), [2; NONCE_BYTES]).unwrap();
        assert_ne!(one[40..], other[40..]);
        let bytes = URL_SAFE_NO_PAD.decode(one).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("browser"));
    }

    #[test]
    fn it_is_bound_to_tenant_and_client() {
        let mut state = state();
        let client = |n| Some(SubjectKey(Pseudonym::from_bytes([n; 16])));
        assert!(state.find(u64::MAX, client(1)).is_some());
        assert!(state.find(u64::MAX, None).is_some());
        assert!(state.find(u64::MAX, client(2)).is_none());
        assert!(state.find(1, client(1)).is_none());
        for n in 2..9 {
            state.put(copy(n, 10 + u64::from(n)));
        }
        assert_eq!(state.copies.len(), COPIES_MAX);
        assert!(
            state.find(u64::MAX, client(8)).is_some() && state.find(u64::MAX, client(1)).is_none()
        );
        let key = DemandCookieKey::new(b"k");
        let value = key.seal(&state, [1; NONCE_BYTES]).unwrap();
        assert!(value.len() <= ENCODED_BYTES_MAX, "{}", value.len());
        let later = NOW.plus(Duration::from_secs(60 * 16));
        assert_eq!(key.open(&value, later).unwrap().copies.len(), 2);
    }

    #[test]
    fn redirects_are_forgotten_after_five_minutes() {
        let copy = copy(1, 10);
        assert_eq!(copy.sent_at(NOW.plus(HOPS_WINDOW / 2)), 1);
        assert_eq!(copy.sent_at(NOW.plus(HOPS_WINDOW)), 0);
    }
}
