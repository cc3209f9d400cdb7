//! Verifies an `X-Risk-Assertion` as a service does that knows riskgate's key set. Arguments: URL of the key set, issuer,
//! audience, assertion. Prints the claims, or says why it does not take the assertion.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use jsonwebtoken::jwk::JwkSet;
use serde_json::Value;

/// The type of an assertion; nothing else is taken for one.
const TYPE: &str = "risk-assertion+jwt";
/// What riskgate signs with. The assertion does not choose.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, issuer, audience, assertion] = arguments.as_slice() else {
        bail!("expected four arguments: URL of the key set, issuer, audience, assertion");
    };
    drop(rustls::crypto::ring::default_provider().install_default());
    let keys = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(url)
        .send()
        .await?
        .error_for_status()?
        .bytes()
        .await?;
    let keys: JwkSet = serde_json::from_slice(&keys).context("the key set cannot be read")?;
    println!("{}", verify(&keys, issuer, audience, assertion)?);
    Ok(())
}

fn verify(keys: &JwkSet, issuer: &str, audience: &str, assertion: &str) -> Result<Value> {
    let header = jsonwebtoken::decode_header(assertion)?;
    ensure!(header.typ.as_deref() == Some(TYPE), "of another type");
    ensure!(ALGORITHMS.contains(&header.alg), "signed in another way");
    let key = header.kid.as_deref().and_then(|id| keys.find(id));
    let key = DecodingKey::from_jwk(key.context("the key is not published")?)?;
    let mut validation = Validation::new(header.alg);
    validation.leeway = 5;
    validation.validate_nbf = true;
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    Ok(jsonwebtoken::decode(assertion, &key, &validation)?.claims)
}
