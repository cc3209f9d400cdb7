//! The lines that `wso2-sim/README.md` shows, as they stand there (`untried.rs` compares them), and what they need.

use crate::gateway::CALLBACK;
use std::time::Duration;
use wso2_sim::Outage;
use wso2_sim::Sim;
use wso2_sim::SimConfig;
use wso2_sim::browser::Browser;
use wso2_sim::seed::ALICE_TOTP_SECRET;
use wso2_sim::totp_now;

#[rustfmt::skip]
#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_is_used_as_its_page_shows() -> anyhow::Result<()> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let sim = Sim::start(SimConfig::default()).await?;
    // Nothing stands in front of it here.
    let public_url = sim.url.clone();
    let redirect_uri = CALLBACK;
    let authorize_url = format!(
        "{public_url}/oauth2/authorize?response_type=code&client_id=demo-web&scope=openid&redirect_uri={redirect_uri}"
    );
    let totp = || totp_now(ALICE_TOTP_SECRET);
    let mut browser = Browser::new(&[sim.ca_pem()])?;
    let page = browser.login(&authorize_url, redirect_uri, "alice", "wonderland", Some(&totp)).await?;
    assert!(page.location_param("code").is_some(), "{page:?}");
    sim.set_public_url("https://localhost:8443");
    let seen = sim.recorded();
    assert!(seen.iter().any(|request| request.path() == "/oauth2/authorize"));
    sim.advance(Duration::from_secs(301));
    sim.set_outage(Outage::Hang);
    Ok(())
}
