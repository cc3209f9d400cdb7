//! Who takes part: users of the simulated WSO2, the addresses they come from, the browsers they use. The addresses are
//! real public ones where the real databases are there; nothing is ever sent to them, they only stand in a header. alice
//! takes no part: she is left to the person at the browser.

use crate::chapters::Chapter;
use crate::screen::Screen;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;
use wso2_sim::seed;

/// Length of a time step of one-time codes in seconds (RFC 6238 section 4.1).
const STEP_SECONDS: u64 = 30;

/// Somebody with an account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
    /// The secret of the authenticator app, Base32.
    pub(crate) totp: Option<&'static str>,
}

/// A browser or program, as its headers show it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agent {
    pub(crate) user_agent: &'static str,
    pub(crate) language: Option<&'static str>,
}

/// Somebody at home.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    pub(crate) account: Account,
    pub(crate) home: Ipv4Addr,
    pub(crate) agent: Agent,
    /// Whether the application that they use always asks for two factors.
    pub(crate) has_two_factors: bool,
}

/// The databases and the addresses that fit them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geo {
    /// The folder, relative to the repository.
    pub(crate) dir: &'static str,
    /// The table of operators, relative to the repository.
    pub(crate) asn: &'static str,
    bob: Ipv4Addr,
    dave: Ipv4Addr,
    erin: Ipv4Addr,
    frank: Ipv4Addr,
    grace: Ipv4Addr,
    phone: Ipv4Addr,
    sydney: Ipv4Addr,
    carol: [Ipv4Addr; 2],
    service: Ipv4Addr,
    stuffing: Ipv4Addr,
}

/// Everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast(Geo);

/// Oslo, Zurich, A Coruña, Ella; Sydney; data centres in Falkenstein and Santa Clara.
const REAL: Geo = Geo {
    dir: "vendor/geo",
    asn: "vendor/geo/asn.csv",
    bob: Ipv4Addr::new(85, 0, 10, 10),
    dave: Ipv4Addr::new(2, 136, 10, 20),
    erin: Ipv4Addr::new(112, 134, 10, 10),
    frank: Ipv4Addr::new(84, 212, 50, 10),
    grace: Ipv4Addr::new(88, 90, 0, 10),
    phone: Ipv4Addr::new(46, 212, 20, 20),
    sydney: Ipv4Addr::new(1, 129, 20, 10),
    carol: [
        Ipv4Addr::new(178, 197, 200, 10),
        Ipv4Addr::new(178, 197, 230, 7),
    ],
    service: Ipv4Addr::new(49, 12, 30, 40),
    stuffing: Ipv4Addr::new(138, 68, 10, 10),
};

/// The networks for documentation of `tests/data/geo`: Zurich, Geneva, Berlin, Colombo; Sydney; two data centres. A table
/// of operators of the demo's own adds a second one in Zurich, for the new phone.
const DOCUMENTATION: Geo = Geo {
    dir: "tests/data/geo",
    asn: "examples/demo/asn.csv",
    bob: Ipv4Addr::new(192, 0, 2, 140),
    dave: Ipv4Addr::new(192, 0, 2, 200),
    erin: Ipv4Addr::new(198, 51, 100, 10),
    frank: Ipv4Addr::new(192, 0, 2, 30),
    grace: Ipv4Addr::new(192, 0, 2, 10),
    phone: Ipv4Addr::new(192, 0, 2, 70),
    sydney: Ipv4Addr::new(198, 51, 100, 130),
    carol: [Ipv4Addr::new(192, 0, 2, 150), Ipv4Addr::new(192, 0, 2, 160)],
    service: Ipv4Addr::new(203, 0, 113, 10),
    stuffing: Ipv4Addr::new(203, 0, 113, 20),
};

const CHROME_WINDOWS: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
const CHROME_ANDROID: &str = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36";
const EDGE_WINDOWS: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0";
const FIREFOX_LINUX: &str =
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0";
const FIREFOX_WINDOWS: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0";
const SAFARI_IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1";
const SAFARI_MAC: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15";

const BOB: Account = Account {
    name: "bob",
    password: "builder-2024",
    totp: Some(seed::BOB_TOTP_SECRET),
};
const CAROL: Account = Account {
    name: "carol",
    password: "carol-sings",
    totp: Some(seed::CAROL_TOTP_SECRET),
};
const DAVE: Account = Account {
    name: "dave",
    password: "dave-was-here",
    totp: None,
};
const ERIN: Account = Account {
    name: "erin",
    password: "erin-pw-1",
    totp: Some("KRSXG5CTERIN"),
};
const FRANK: Account = Account {
    name: "frank",
    password: "frank-pw-1",
    totp: Some("KRSXG5CTFRAN"),
};
const GRACE: Account = Account {
    name: "grace",
    password: "grace-pw-1",
    totp: Some("KRSXG5CTGRAC"),
};

impl Agent {
    const fn browser(user_agent: &'static str, language: &'static str) -> Self {
        Self {
            user_agent,
            language: Some(language),
        }
    }

    const fn program(user_agent: &'static str) -> Self {
        Self {
            user_agent,
            language: None,
        }
    }
}

impl Cast {
    /// Takes the real databases if they are wanted and there, else the small ones of the tests.
    pub(crate) fn choose(root: &Path, wants_tests: bool, screen: &Screen) -> Self {
        let files = ["country.mmdb", "city-ipv4.mmdb", "asn.csv"];
        let dir = root.join(REAL.dir);
        let is_there = files.iter().all(|file| dir.join(file).is_file());
        if is_there && !wants_tests {
            return Self(REAL);
        }
        if !is_there && !wants_tests {
            screen.line("    vendor/geo has no databases (scripts/fetch-geo.sh fetches them):");
        }
        screen
            .line("    the small databases of the tests and addresses for documentation are used");
        Self(DOCUMENTATION)
    }

    /// The databases.
    pub(crate) fn geo(&self) -> &Geo {
        &self.0
    }

    /// Who signs in at home, from several countries.
    pub(crate) fn residents(&self) -> [Resident; 5] {
        let geo = self.0;
        [
            Resident {
                account: GRACE,
                home: geo.grace,
                agent: Agent::browser(CHROME_WINDOWS, "nb-NO,nb;q=0.9,en;q=0.8"),
                has_two_factors: false,
            },
            Resident {
                account: BOB,
                home: geo.bob,
                agent: Agent::browser(FIREFOX_WINDOWS, "de-CH,de;q=0.8,en;q=0.5"),
                has_two_factors: true,
            },
            Resident {
                account: DAVE,
                home: geo.dave,
                agent: Agent::browser(EDGE_WINDOWS, "es-ES,es;q=0.9"),
                has_two_factors: false,
            },
            Resident {
                account: ERIN,
                home: geo.erin,
                agent: Agent::browser(CHROME_ANDROID, "en-GB,en;q=0.9,si;q=0.8"),
                has_two_factors: true,
            },
            self.frank(),
        ]
    }

    /// Who will seem to travel.
    pub(crate) fn frank(&self) -> Resident {
        Resident {
            account: FRANK,
            home: self.0.frank,
            agent: Agent::browser(SAFARI_MAC, "nb-NO,nb;q=0.9"),
            has_two_factors: false,
        }
    }

    /// grace's new phone, and where it is.
    pub(crate) fn new_phone(&self) -> (Account, Ipv4Addr, Agent) {
        let agent = Agent::browser(SAFARI_IPHONE, "nb-NO,nb;q=0.9");
        (GRACE, self.0.phone, agent)
    }

    /// Who has frank's password, and where.
    pub(crate) fn thief(&self) -> (Ipv4Addr, Agent) {
        let agent = Agent::browser(FIREFOX_LINUX, "en-US,en;q=0.5");
        (self.0.sydney, agent)
    }

    /// The user of the app: the account, the browser in which it signs in, the app itself, and the phone's addresses one
    /// after the other.
    pub(crate) fn app_user(&self) -> (Account, Agent, Agent, [Ipv4Addr; 2]) {
        let browser = Agent::browser(CHROME_ANDROID, "de-CH,de;q=0.9");
        (
            CAROL,
            browser,
            Agent::program("okhttp/4.12.0"),
            self.0.carol,
        )
    }

    /// The service account's machine.
    pub(crate) fn service(&self) -> (Ipv4Addr, Agent) {
        (self.0.service, Agent::program("Go-http-client/1.1"))
    }

    /// The machine that tries a stolen list.
    pub(crate) fn stuffing(&self) -> (Ipv4Addr, Agent) {
        (self.0.stuffing, Agent::program("python-requests/2.32.5"))
    }

    /// A stolen list: names and passwords of another site. One of them is right here.
    pub(crate) fn stolen_list() -> Vec<(String, &'static str)> {
        let first = [
            "anna", "ben", "clara", "emil", "finn", "hanna", "jonas", "lena",
        ];
        let last = ["berg", "costa", "dahl", "fischer", "moreau"];
        let mut list: Vec<(String, &'static str)> = first
            .iter()
            .flat_map(|first| last.iter().map(move |last| format!("{first}.{last}")))
            .map(|name| (name, "Summer2024!"))
            .collect();
        list.insert(10, (GRACE.name.to_owned(), "grace1999"));
        list.insert(20, (DAVE.name.to_owned(), DAVE.password));
        list.insert(30, (BOB.name.to_owned(), "qwertz123"));
        list
    }

    /// Every address of the driver and the chapter that it plays in. No two chapters share one.
    pub(crate) fn addresses(&self) -> Vec<(IpAddr, Chapter)> {
        let geo = self.0;
        let mut all: Vec<(IpAddr, Chapter)> = self
            .residents()
            .iter()
            .map(|resident| (resident.home.into(), Chapter::AtHome))
            .collect();
        all.extend(geo.carol.map(|address| (address.into(), Chapter::App)));
        all.extend([
            (geo.service.into(), Chapter::Service),
            (geo.phone.into(), Chapter::NewPhone),
            (geo.sydney.into(), Chapter::Travel),
            (geo.stuffing.into(), Chapter::Stuffing),
        ]);
        all
    }
}

/// alice's one-time code, and in how many seconds the next one begins.
pub(crate) fn alice_code() -> (String, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    let code = wso2_sim::totp_at(
        seed::ALICE_TOTP_SECRET,
        i64::try_from(seconds).unwrap_or(i64::MAX),
    );
    (code, STEP_SECONDS.saturating_sub(seconds % STEP_SECONDS))
}
