//! The certificate that the gateway shows as a client, to an upstream that asks for one; exchanged while connections live
//! on. It never prints a key.

use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::proxy::certificate::CertificateError;
use crate::proxy::certificate::Pair;
use arc_swap::ArcSwap;
use pingora::prelude::HttpPeer;
use pingora::utils::tls::CertKey;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use sha2::Digest;
use sha2::Sha256;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// The groups of connections that belong to a certificate have this bit; those of single requests count up from one.
const GROUP: u64 = 1 << 63;

/// Where chain and key are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PairFiles {
    /// The chain, PEM, leaf first.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// A chain and its key as Pingora takes them, made once and shared by all requests.
pub struct OwnPair {
    shown: Arc<CertKey>,
    group: u64,
    not_after: Timestamp,
}

impl std::fmt::Debug for OwnPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnPair(until {})", self.not_after.to_rfc3339())
    }
}

impl OwnPair {
    /// Reads chain and key. The key must be out of reach for others than owner and group.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn read(files: &PairFiles) -> Result<Self, CertificateError> {
        let pair = Pair::read(&files.certificate, &files.key)?;
        keep_closed(&files.key)?;
        let key = pair.key().secret_der().to_vec();
        // Pingora guesses the form from the bytes and panics where it cannot.
        PrivateKeyDer::try_from(key.as_slice()).map_err(|cause| CertificateError::Key {
            path: files.key.clone(),
            cause: cause.to_owned(),
        })?;
        let chain: Vec<Vec<u8>> = pair.chain().iter().map(|der| der.to_vec()).collect();
        Ok(Self {
            group: group(&chain, &key),
            // Every certificate was parsed, by the parser that this one uses; there is one at least.
            shown: Arc::new(CertKey::new(chain, key)),
            not_after: pair.not_after(),
        })
    }

    /// The moment from which on the chain is worth nothing.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The certificates, leaf first, DER.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let others = self.shown.intermediates();
        let all = std::iter::once(self.shown.leaf()).chain(others);
        all.map(CertificateDer::from).collect()
    }

    /// The key, DER.
    pub fn key(&self) -> Secret<Vec<u8>> {
        Secret::new(self.shown.key().clone())
    }

    /// The peer is shown it, over connections that were made with it and no other.
    pub fn put(&self, peer: &mut HttpPeer) {
        peer.client_cert_key = Some(Arc::clone(&self.shown));
        // Pingora tells certificates apart by their serial numbers alone, which two authorities can give alike.
        peer.group_key = self.group;
    }
}

/// The certificate that an upstream is shown.
#[derive(Debug)]
pub struct OwnCertificate(ArcSwap<OwnPair>);

impl OwnCertificate {
    /// With this pair until there is another.
    pub fn new(pair: OwnPair) -> Self {
        Self(ArcSwap::from_pointee(pair))
    }

    /// The next connection is made with this one. Requests that are under way end on theirs; no other takes those over.
    pub fn exchange(&self, pair: OwnPair) {
        self.0.store(Arc::new(pair));
    }

    /// The one that is shown now.
    pub fn present(&self) -> arc_swap::Guard<Arc<OwnPair>> {
        self.0.load()
    }
}

/// A group of connections that are in both.
pub(super) fn joined(one: u64, other: u64) -> u64 {
    (one ^ other) | GROUP
}

/// The same for the same chain and key, so that reading them again costs no connection.
pub(super) fn group(chain: &[Vec<u8>], key: &[u8]) -> u64 {
    let mut hash = Sha256::new();
    for part in chain.iter().map(Vec::as_slice).chain([key]) {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let first = hash.finalize().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first) | GROUP
}

fn keep_closed(path: &Path) -> Result<(), CertificateError> {
    let data = std::fs::metadata(path).map_err(|error| CertificateError::KeyUnreadable {
        path: path.to_owned(),
        cause: error.to_string(),
    })?;
    let mode = data.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(CertificateError::KeyOpen {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::upstreams::peer::Peer;
    use rcgen::CertificateParams;
    use rcgen::KeyPair;
    use rcgen::SerialNumber;

    /// A pair on the disk whose certificate has this serial number.
    fn pair(folder: &Path, name: &str, serial: u64) -> PairFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["riskgate".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let files = PairFiles {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        };
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        mode(&files.key, 0o600);
        files
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn hash(pair: &OwnPair) -> u64 {
        let mut peer = HttpPeer::new("127.0.0.1:9443", true, "localhost".to_owned());
        pair.put(&mut peer);
        peer.reuse_hash()
    }

    #[test]
    fn connections_are_shared_under_the_same_pair_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let one = pair(folder.path(), "one", 7);
        let other = pair(folder.path(), "other", 7);
        let first = OwnPair::read(&one).unwrap();
        let again = OwnPair::read(&one).unwrap();
        let second = OwnPair::read(&other).unwrap();
        assert_eq!(hash(&first), hash(&again));
        // The serial number alone would not tell them apart.
        assert_ne!(hash(&first), hash(&second));
        let mut peer = HttpPeer::new("127.0.0.1:9443", true, "localhost".to_owned());
        assert_ne!(hash(&first), peer.reuse_hash());
        first.put(&mut peer);
        let shown = peer.get_client_cert_key().unwrap();
        assert!(Arc::ptr_eq(shown, &first.shown), "nothing is copied");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = pair(folder.path(), "one", 1);
        for open in [0o604, 0o644, 0o602, 0o777] {
            mode(&files.key, open);
            let error = OwnPair::read(&files).unwrap_err();
            assert_eq!(error.key(), "key");
            let text = error.to_string();
            assert!(
                text.contains("one.key") && text.contains("chmod 600"),
                "{text}"
            );
        }
        for closed in [0o600, 0o400, 0o640] {
            mode(&files.key, closed);
            assert!(OwnPair::read(&files).is_ok(), "{closed:o}");
        }
    }

    #[test]
    fn no_key_is_printed() {
        let folder = tempfile::tempdir().unwrap();
        let files = pair(folder.path(), "one", 1);
        let own = OwnCertificate::new(OwnPair::read(&files).unwrap());
        assert!(format!("{own:?}").contains("OwnPair(until "), "{own:?}");
        assert_eq!(format!("{:?}", own.present().key()), "[redacted]");
    }
}
