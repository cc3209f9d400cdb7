//! What goes wrong during the soak, one thing after the other, sometimes two at once.

use crate::gateway::World;
use crate::gateway::redis::RedisServer;
use crate::issuer::Authority;
use crate::reload;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::fs;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use wso2_sim::Outage;

/// A fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Redis is killed and comes back.
    RedisKilled,
    /// Redis is stopped and goes on.
    RedisStopped,
    /// Redis lets its clients wait, again and again.
    RedisSlow,
    /// WSO2 closes without an answer.
    UpstreamResets,
    /// WSO2 does not answer.
    UpstreamHangs,
    /// WSO2 answers 503.
    UpstreamFails,
    /// WSO2 takes its time.
    UpstreamSlow,
    /// Another configuration with another policy and another model.
    Reload,
    /// A configuration that cannot be used.
    WrongReload,
    /// Another certificate.
    Certificate,
    /// A key that does not belong to the certificate.
    WrongCertificate,
    /// Redis and WSO2 at once.
    Both,
}

/// When it was.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// What it was.
    pub fault: Fault,
    /// From when to when.
    pub time: (SystemTime, SystemTime),
}

/// Everything that faults are made with.
pub struct Stage {
    /// The gateway and the identity server.
    pub world: World,
    redis: RedisServer,
    authority: Authority,
    editions: [String; 2],
    turn: usize,
    draw: StdRng,
    certificates: u32,
}

impl Fault {
    const ALL: [Self; 12] = [
        Self::RedisKilled,
        Self::RedisStopped,
        Self::RedisSlow,
        Self::UpstreamResets,
        Self::UpstreamHangs,
        Self::UpstreamFails,
        Self::UpstreamSlow,
        Self::Reload,
        Self::WrongReload,
        Self::Certificate,
        Self::WrongCertificate,
        Self::Both,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::RedisKilled => "redis killed",
            Self::RedisStopped => "redis stopped",
            Self::RedisSlow => "redis slow",
            Self::UpstreamResets => "upstream resets",
            Self::UpstreamHangs => "upstream hangs",
            Self::UpstreamFails => "upstream fails",
            Self::UpstreamSlow => "upstream slow",
            Self::Reload => "reload",
            Self::WrongReload => "wrong reload",
            Self::Certificate => "certificate",
            Self::WrongCertificate => "wrong certificate",
            Self::Both => "both",
        }
    }

    /// Whether requests may be answered with 5xx meanwhile.
    pub fn is_upstream(self) -> bool {
        matches!(
            self,
            Self::UpstreamResets | Self::UpstreamHangs | Self::UpstreamFails | Self::Both
        )
    }

    /// Whether requests may do without their history meanwhile.
    pub fn is_state(self) -> bool {
        matches!(
            self,
            Self::RedisKilled | Self::RedisStopped | Self::RedisSlow | Self::Both
        )
    }
}

impl Stage {
    /// With everything whole.
    pub fn new(world: World, redis: RedisServer, authority: Authority, seed: u64) -> Self {
        let editions = [
            reload::edition(&world, "a", "tests/data/models/starter"),
            reload::edition(&world, "b", "conf/model"),
        ];
        Self {
            world,
            redis,
            authority,
            editions,
            turn: 0,
            draw: StdRng::seed_from_u64(seed),
            certificates: 0,
        }
    }

    /// From the configuration of the harness to the first of the two.
    pub async fn begin(&self) {
        reload::replace(&self.world.config_file(), &self.editions[0]);
        reload::reload(&self.world, "ok").await;
    }

    /// Faults until `end`: when each was.
    pub async fn faults(&mut self, end: Instant) -> Vec<Window> {
        let mut windows = Vec::new();
        while Instant::now() < end {
            let pause = Duration::from_millis(self.draw.random_range(500..3_500));
            tokio::time::sleep(pause).await;
            let fault = Fault::ALL[self.draw.random_range(0..Fault::ALL.len())];
            let length = Duration::from_millis(self.draw.random_range(200..2_000));
            let from = SystemTime::now();
            self.fault(fault, length).await;
            windows.push(Window {
                fault,
                time: (from, SystemTime::now()),
            });
        }
        windows
    }

    async fn fault(&mut self, fault: Fault, length: Duration) {
        match fault {
            Fault::RedisKilled => {
                self.redis.kill();
                tokio::time::sleep(length).await;
                tokio::task::block_in_place(|| self.redis.restart());
            }
            Fault::RedisStopped => {
                self.redis.stop();
                tokio::time::sleep(length).await;
                self.redis.cont();
            }
            Fault::RedisSlow => {
                let end = Instant::now() + length;
                while Instant::now() < end {
                    self.redis.command(&[b"CLIENT", b"PAUSE", b"40", b"ALL"]);
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
            }
            Fault::UpstreamResets => self.outage(Outage::Reset, length).await,
            Fault::UpstreamHangs => self.outage(Outage::Hang, length).await,
            Fault::UpstreamFails => self.outage(Outage::Status(503), length).await,
            Fault::UpstreamSlow => {
                self.world
                    .sim
                    .set_response_delay(Duration::from_millis(300));
                tokio::time::sleep(length).await;
                self.world.sim.set_response_delay(Duration::ZERO);
            }
            Fault::Reload => {
                self.turn += 1;
                reload::replace(&self.world.config_file(), &self.editions[self.turn % 2]);
                self.world.signal("HUP");
                tokio::time::sleep(length).await;
            }
            Fault::WrongReload => {
                reload::replace(&self.world.config_file(), "no configuration [");
                self.world.signal("HUP");
                tokio::time::sleep(length).await;
                reload::replace(&self.world.config_file(), &self.editions[self.turn % 2]);
            }
            Fault::Certificate => {
                self.exchange_certificate();
                tokio::time::sleep(length).await;
            }
            Fault::WrongCertificate => {
                let path = self.world.data_dir().with_file_name("server.key");
                let good = fs::read(&path).expect("a key");
                let other = self.authority.server("another");
                fs::write(&path, other.key).expect("a file");
                self.world.signal("HUP");
                tokio::time::sleep(length).await;
                fs::write(&path, good).expect("a file");
            }
            Fault::Both => {
                self.redis.stop();
                self.outage(Outage::Reset, length).await;
                self.redis.cont();
            }
        }
    }

    async fn outage(&self, outage: Outage, length: Duration) {
        self.world.sim.set_outage(outage);
        tokio::time::sleep(length).await;
        self.world.sim.set_outage(Outage::None);
    }

    /// Puts another certificate in place.
    pub fn exchange_certificate(&mut self) {
        self.certificates += 1;
        let name = format!("number {}", self.certificates);
        let issued = self.authority.server(&name);
        let path = |name: &str| self.world.data_dir().with_file_name(name);
        fs::write(path("server.crt"), issued.certificate).expect("a file");
        fs::write(path("server.key"), issued.key).expect("a file");
        self.world.signal("HUP");
    }
}
