//! Tokens and published keys. Nothing that was not signed is taken, and what the gateway signs anew comes back as it was.

use riskgate::domain::access_token::AccessToken;
use riskgate::domain::id_token::Claimed;
use riskgate::domain::id_token::Expected;
use riskgate::domain::id_token::IdToken;
use riskgate::domain::jwt::TokenKind;
use riskgate::domain::jwt::UnverifiedHeader;
use riskgate::domain::jwt::keys::KeySet;
use riskgate::domain::resign;
use riskgate::domain::resign::Ours;
use riskgate::domain::resign::Resigning;
use riskgate::domain::resign::origin::NONCE_BYTES;
use riskgate::domain::resign::origin::OriginSeal;
use riskgate::domain::risk_claims::RiskClaims;
use riskgate::domain::signing::Ring;
use riskgate::domain::signing::SigningAlgorithm;
use riskgate::domain::signing::SigningKey;
use riskgate::domain::signing::SigningKeys;
use riskgate::domain::time::Timestamp;
use serde_json::Value;
use std::sync::LazyLock;

/// An Ed25519 key in PKCS#8 but for its 32 secret bytes (RFC 8410 section 7).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const NOW: Timestamp = Timestamp(1_760_000_000_000);
const ISSUER: &str = "https://wso2.example/oauth2/token";

/// The key of the identity server, and what it has signed.
const PUBLISHED: &[u8] = include_bytes!("../../seeds/keys/ed25519");
const ACCESS: &str = include_str!("../../seeds/token/access");
const ID: &str = include_str!("../../seeds/token/id");

struct World {
    theirs: KeySet,
    ours: SigningKeys,
    seal: OriginSeal,
}

/// Nobody here has the private key: what the seeds hold is all that it has signed.
static WORLD: LazyLock<World> = LazyLock::new(|| World {
    theirs: KeySet::parse(PUBLISHED).expect("keys"),
    ours: signing_keys(8),
    seal: OriginSeal::new(b"present"),
});

fn signing_keys(number: u8) -> SigningKeys {
    let der = [PKCS8.as_slice(), &[number; 32]].concat();
    let current = SigningKey::from_pkcs8(SigningAlgorithm::EdDsa, &der).expect("a key");
    let ring = Ring {
        current,
        next: None,
        previous: None,
    };
    SigningKeys::new(SigningAlgorithm::EdDsa, vec![ring]).expect("keys")
}

/// A token, as each kind.
pub(super) fn token(bytes: &[u8]) -> bool {
    let Ok(token) = std::str::from_utf8(bytes) else {
        return false;
    };
    let world = &*WORLD;
    let is_signed = |of: &str| {
        let message = |token: &str| {
            token
                .rsplit_once('.')
                .map(|(message, _)| message.to_owned())
        };
        message(token) == message(of)
    };
    if let Ok(header) = UnverifiedHeader::read(token, TokenKind::Access) {
        let is_known = header.is_known_to(&world.theirs);
        assert!(!is_known || header.key_id().is_none_or(|id| id == "1"));
        assert!(
            UnverifiedHeader::read(token, TokenKind::Id).is_err(),
            "of two kinds"
        );
    }
    let claimed = Claimed::read(token);
    assert!(claimed.audience.len() <= 16);
    let access = AccessToken::authentic(token, &world.theirs);
    if let Ok(access) = &access {
        assert!(is_signed(ACCESS), "a forgery: {token}");
        assert_eq!(access.check(ISSUER, NOW), Ok(()));
    }
    let expected = Expected {
        issuer: ISSUER,
        client_id: "app",
        now: NOW,
    };
    let id = IdToken::verify(token, &world.theirs, &expected);
    assert!(id.is_err() || is_signed(ID), "a forgery: {token}");
    // What only says that it is ours is not.
    let ours = ours(world);
    assert_eq!(ours.restored(token), None, "a forgery: {token}");
    assert_eq!(ours.authorization(&format!("Bearer {token}")), None);
    drop((ours.pairs(token), ours.members(bytes)));
    access.is_ok() || id.is_ok()
}

fn ours(world: &World) -> Ours<'_> {
    Ours {
        keys: &world.ours,
        seal: &world.seal,
    }
}

/// A token answer.
pub(super) fn answer(bytes: &[u8]) -> bool {
    let world = &*WORLD;
    let resigning = Resigning {
        theirs: &world.theirs,
        ours: ours(world),
        algorithm: None,
        nonces: [[1; NONCE_BYTES], [2; NONCE_BYTES]],
    };
    let Ok(signed) = resigning.answer(bytes, &RiskClaims::Unscored) else {
        return false;
    };
    let old = resign::access_token(bytes).expect("there was a token");
    let new = resign::access_token(signed.as_bytes()).expect("there is a token");
    assert_eq!(ours(world).restored(new).as_deref(), Some(old));
    // With its tokens back it is the answer of the identity server, byte for byte.
    let back = signed.replace(new, old);
    let id_token = |text: &str| {
        let answer: Value = serde_json::from_str(text).ok()?;
        Some(answer.get("id_token")?.as_str()?.to_owned())
    };
    if id_token(&back) == std::str::from_utf8(bytes).ok().and_then(id_token) {
        assert_eq!(back.as_bytes(), bytes);
    }
    // What is signed already is not signed again.
    assert!(
        resigning
            .answer(signed.as_bytes(), &RiskClaims::Unscored)
            .is_err()
    );
    true
}

/// A key set as it is published.
pub(super) fn keys(bytes: &[u8]) -> bool {
    let Ok(keys) = KeySet::parse(bytes) else {
        return false;
    };
    // Somebody else's keys verify nothing of ours, unless ours is among them.
    let is_taken = AccessToken::authentic(ACCESS, &keys).is_ok();
    assert!(!is_taken || names_theirs(bytes), "a foreign key");
    true
}

/// Whether the key of [`PUBLISHED`] stands in a document, perhaps with other bits where none are read.
fn names_theirs(document: &[u8]) -> bool {
    let Ok(document) = serde_json::from_slice::<Value>(document) else {
        return false;
    };
    let own: Value = serde_json::from_slice(PUBLISHED).expect("JSON");
    let public = own.pointer("/keys/0/x").and_then(Value::as_str);
    let front = public
        .and_then(|text| text.get(..42))
        .expect("a public key");
    let keys = document.pointer("/keys").and_then(Value::as_array);
    keys.into_iter().flatten().any(|key| {
        let x = key.get("x").and_then(Value::as_str);
        x.is_some_and(|x| x.starts_with(front))
    })
}
