//! The address databases are missing or damaged: their facts are unknown, and everything else is as ever.

use crate::gateway::root;
use crate::traffic::Crowd;
use crate::traffic::alone;
use crate::traffic::normal;
use crate::traffic::recovered;
use crate::traffic::until_part;
use crate::traffic::world;
use std::fs;

const FILES: [&str; 5] = [
    "country.mmdb",
    "city-ipv4.mmdb",
    "city-ipv6.mmdb",
    "asn.csv",
    "network-kinds.csv",
];

fn geo_in(folder: &str) -> String {
    let [country, city_v4, city_v6, asn, kinds] = FILES.map(|file| format!("'{folder}/{file}'"));
    format!(
        "geo.country = {country}\ngeo.city = [{city_v4}, {city_v6}]\ngeo.asn = {asn}\ngeo.kinds = {kinds}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_databases_are_missing_or_damaged() {
    let _alone = alone().await;
    let well = world("").await;
    recovered(&well).await;
    let usual = Crowd::people(4).log_in(&well).await;
    assert!(
        usual
            .scored
            .iter()
            .all(|scored| scored.record.country.as_deref() == Some("CH"))
    );

    let cut = tempfile::tempdir().expect("a temporary folder");
    for file in FILES {
        let bytes = fs::read(root().join("tests/data/geo").join(file)).expect("a database");
        let mut bytes = bytes[..bytes.len() / 2].to_vec();
        bytes.extend_from_slice(b"\xff\xffnot,an,address\n");
        fs::write(cut.path().join(file), bytes).expect("a damaged database");
    }
    for (name, folder) in [
        ("missing", "/nonexistent"),
        ("damaged", cut.path().to_str().expect("text")),
    ] {
        let world = world(&geo_in(folder)).await;
        until_part(&world, "geo", |detail| detail.is_some()).await;
        let log = world.log();
        assert!(
            FILES
                .iter()
                .all(|file| log.contains(&format!("{folder}/{file}"))),
            "{log}"
        );
        let name = format!("address databases {name}");
        let faulty = normal(&name, async || Crowd::people(4).log_in(&world).await).await;
        faulty.print(&name, Some(&usual));
        faulty.assert_not_felt(&usual);
        assert!(
            faulty
                .scored
                .iter()
                .all(|scored| scored.record.country.is_none() && scored.record.asn.is_none())
        );
        assert!(world.metric("riskgate_panics_total", &[]).await < 0.5);
    }
}
