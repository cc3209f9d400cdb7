//! Names that can no longer be looked up, while connections have to be made anew. Names are read from a file of this test
//! (nss_wrapper), which loses them.

use crate::clock::preload;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::redis::RedisServer;
use crate::gateway::rules;
use crate::load;
use crate::load::alone;
use crate::load::scaled;
use riskgate::domain::audit::Word;
use std::fs;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

/// Users with a second factor.
const PEOPLE: [&str; 9] = [
    "alice", "bob", "carol", "erin", "frank", "grace", "heidi", "ivan", "judy",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_addresses_stand_in_for_names() {
    let _alone = alone().await;
    let mut redis = RedisServer::start();
    let config = format!(
        "state.url = \"redis://redis.test:{}\"\nupstream.idle_timeout_seconds = 1\nlimits.address_per_minute = 0\nlimits.network_per_minute = 0\nlimits.user_per_minute = 0\nlimits.client_per_minute = 0\nstep_up.challenges_max = 100\n",
        redis.port()
    );
    // Without a name the harness starts it by address; then it is started again by name.
    let by_address = config.replace("redis.test", "127.0.0.1");
    let mut world = World::start(Options {
        mode: "enforce",
        // Each login has to prove its second factor by a signed token, whose key has to be fetched.
        policy: Some(rules(&[("request.door == \"login\"", "step_up")])),
        config: by_address.leak(),
        ..Options::default()
    })
    .await;
    let file = |name: &str| world.config_file().with_file_name(name);
    let hosts = file("hosts");
    fs::write(&hosts, "127.0.0.1 wso2.test\n127.0.0.1 redis.test\n").expect("a file");
    // A file is read anew when its time in whole seconds is another: it must not be rewritten within the same second.
    fs::File::options()
        .write(true)
        .open(&hosts)
        .and_then(|file| file.set_modified(SystemTime::now() - Duration::from_secs(60)))
        .expect("an earlier time");
    let environment = format!(
        "LD_PRELOAD={}\nNSS_WRAPPER_HOSTS={}\n",
        preload("libnss_wrapper.so"),
        hosts.display()
    );
    fs::write(file("environment"), environment).expect("a file");
    let text = fs::read_to_string(world.config_file()).expect("a configuration");
    let port = world.sim.url.rsplit(':').next().expect("a port").to_owned();
    let text = text
        .replace(
            &format!("redis://127.0.0.1:{}", redis.port()),
            &format!("redis://redis.test:{}", redis.port()),
        )
        .replace(
            &format!("http://127.0.0.1:{port}"),
            &format!("http://wso2.test:{port}"),
        );
    assert!(
        text.contains("redis.test") && text.contains("wso2.test"),
        "{text}"
    );
    fs::write(world.config_file(), text).expect("a file");
    assert_eq!(world.restart().await, Some(0), "{}", world.log());

    // Somebody else each time, since nobody is challenged too often.
    let log_in = async |world: &World, turn: usize| {
        let mut person = world
            .person(PEOPLE[turn % PEOPLE.len()])
            .from(&format!("192.0.2.{}", 10 + turn % 200));
        let code = person.sign_in().await;
        let tokens = person.redeem(&code).await;
        assert_eq!(tokens.status, 200, "{tokens:?}\n{}", world.log());
    };
    log_in(&world, 0).await;
    fs::write(&hosts, "").expect("a file");
    let begin = Instant::now();
    let (mut logins, mut rounds) = (0, 0);
    while begin.elapsed() < Duration::from_secs(scaled(5, 40)) {
        // Redis is another, connections to WSO2 have been idle for too long, and once the keys are others: they are not
        // fetched again and again within a short time.
        if rounds == 0 {
            world.sim.rotate_keys().expect("other keys");
        }
        redis.restart();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let end = Instant::now() + PATIENCE;
        loop {
            logins += 1;
            log_in(&world, logins).await;
            let record = world.last_record_of("login").await;
            let is_stateless = |reason: &Word| reason == "state_unavailable";
            if !record.reasons.iter().any(is_stateless) {
                break;
            }
            assert!(
                Instant::now() < end,
                "Redis was not found again\n{}",
                world.log()
            );
        }
        rounds += 1;
    }
    assert!(
        world.log().contains("the last good addresses stay"),
        "the names were not asked for: {}",
        world.log()
    );
    load::row(
        "R29",
        &format!(
            "logins without names, over {rounds} restarts of Redis, other keys and new connections"
        ),
        logins as u64,
        0,
        0,
    );
}
