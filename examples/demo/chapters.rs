//! The traffic, in chapters: each plays one kind of visitor and notes what it saw as a client. What riskgate thought of it
//! is read from the audit file later, in `verdicts`.

use crate::audit::Records;
use crate::cast::Cast;
use crate::driver;
use crate::driver::Gateway;
use crate::driver::SERVICE;
use crate::driver::SPA;
use crate::driver::SignIn;
use crate::driver::TWO_FACTOR;
use crate::screen::Screen;
use uuid::Uuid;
use wso2_sim::browser::param;

/// Sign-ins of each resident, until they are known.
const VISITS: usize = 3;
/// Refreshes of the app.
const REFRESHES: usize = 4;
/// Token requests of the service account.
const SERVICE_CALLS: usize = 4;

/// One kind of visitor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Chapter {
    /// Users at home.
    AtHome,
    /// An app with refresh tokens.
    App,
    /// A service account.
    Service,
    /// A known user on a new phone.
    NewPhone,
    /// A known user far away, too soon.
    Travel,
    /// A stolen list being tried.
    Stuffing,
    /// Whoever is not the driver.
    Visitor,
}

/// What the driver saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The residents' sign-ins.
    pub(crate) at_home: Vec<SignIn>,
    /// How many residents there are.
    pub(crate) residents: usize,
    /// The app's sign-in.
    pub(crate) app: SignIn,
    /// The statuses of its refreshes.
    pub(crate) refreshes: Vec<u16>,
    /// The statuses of the service account's token requests.
    pub(crate) service: Vec<u16>,
    /// The sign-in on the new phone.
    pub(crate) phone: SignIn,
    /// The sign-in far away.
    pub(crate) travel: SignIn,
    /// The passwords that were tried, in order: whether each was accepted.
    pub(crate) stuffing: Vec<bool>,
}

impl Chapter {
    /// The driver's chapters, in their order.
    pub(crate) const PLAYED: [Self; 6] = [
        Self::AtHome,
        Self::App,
        Self::Service,
        Self::NewPhone,
        Self::Travel,
        Self::Stuffing,
    ];

    /// The name in the summary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtHome => "users at home",
            Self::App => "app, refresh tokens",
            Self::Service => "service account",
            Self::NewPhone => "new phone",
            Self::Travel => "impossible travel",
            Self::Stuffing => "credential stuffing",
            Self::Visitor => "visitors",
        }
    }
}

/// Plays all chapters.
pub(crate) async fn play(
    gateway: &Gateway,
    cast: &Cast,
    records: &Records,
    screen: &Screen,
) -> anyhow::Result<Facts> {
    let mut facts = Facts::default();

    screen.heading("1. Five users sign in at home, with one factor or two, until they are known");
    at_home(gateway, cast, records, &mut facts).await?;
    records.settle().await;

    screen.heading("2. An app on a phone signs its user in, then refreshes its tokens");
    app(gateway, cast, &mut facts).await?;
    records.settle().await;

    screen.heading("3. A service account fetches tokens from a data centre");
    service(gateway, cast, &mut facts).await?;
    records.settle().await;

    screen.heading("4. grace, known at home, signs in on a new phone through another operator");
    let (account, address, agent) = cast.new_phone();
    let mut browser = gateway.visitor(address, agent)?;
    facts.phone = gateway.sign_in(&mut browser, SPA, account).await?;
    records.settle().await;

    screen.heading("5. frank was at home a moment ago; now somebody in Sydney has his password");
    travel(gateway, cast, &mut facts).await?;
    records.settle().await;

    screen.heading("6. A program in a data centre tries a stolen list of names and passwords");
    stuffing(gateway, cast, &mut facts).await?;
    records.settle().await;
    Ok(facts)
}

async fn at_home(
    gateway: &Gateway,
    cast: &Cast,
    records: &Records,
    facts: &mut Facts,
) -> anyhow::Result<()> {
    let residents = cast.residents();
    facts.residents = residents.len();
    for resident in residents {
        let mut browser = gateway.visitor(resident.home, resident.agent)?;
        let client = if resident.has_two_factors {
            TWO_FACTOR
        } else {
            SPA
        };
        for _ in 0..VISITS {
            let sign_in = gateway
                .sign_in(&mut browser, client, resident.account)
                .await?;
            facts.at_home.push(sign_in);
            // What was learnt is written beside the requests: the next visit shall find it.
            records.settle().await;
        }
    }
    Ok(())
}

async fn app(gateway: &Gateway, cast: &Cast, facts: &mut Facts) -> anyhow::Result<()> {
    let (account, browser_agent, app_agent, addresses) = cast.app_user();
    let [first, second] = addresses;
    let mut browser = gateway.visitor(first, browser_agent)?;
    facts.app = gateway.sign_in(&mut browser, SPA, account).await?;
    let mut token = facts.app.refresh_token.clone().unwrap_or_default();
    for turn in 0..REFRESHES {
        // Half-way the phone gets another address of its operator.
        let address = if turn < REFRESHES / 2 { first } else { second };
        let mut app = gateway.visitor(address, app_agent)?;
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", token.as_str()),
        ];
        let answer = gateway.token(&mut app, SPA, &fields).await?;
        facts.refreshes.push(answer.status);
        token = answer.text("refresh_token").unwrap_or_default();
    }
    Ok(())
}

async fn service(gateway: &Gateway, cast: &Cast, facts: &mut Facts) -> anyhow::Result<()> {
    let (address, agent) = cast.service();
    let mut program = gateway.visitor(address, agent)?;
    for _ in 0..SERVICE_CALLS {
        let fields = [("grant_type", "client_credentials")];
        let answer = gateway.token(&mut program, SERVICE, &fields).await?;
        facts.service.push(answer.status);
    }
    Ok(())
}

async fn travel(gateway: &Gateway, cast: &Cast, facts: &mut Facts) -> anyhow::Result<()> {
    let frank = cast.frank();
    let (address, agent) = cast.thief();
    let mut browser = gateway.visitor(address, agent)?;
    facts.travel = gateway.sign_in(&mut browser, SPA, frank.account).await?;
    Ok(())
}

async fn stuffing(gateway: &Gateway, cast: &Cast, facts: &mut Facts) -> anyhow::Result<()> {
    let (address, agent) = cast.stuffing();
    let mut program = gateway.visitor(address, agent)?;
    let state = Uuid::new_v4().to_string();
    // It needs the key of a login in progress, else WSO2 looks at no password. When it gets none it makes one up, as such
    // programs do.
    let (_, challenge) = driver::proof_of_code();
    let more = [
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    let first = program
        .get(&gateway.authorize_url(SPA, &state, &more))
        .await?;
    let key = first
        .location()
        .and_then(|location| param(&location, "sessionDataKey"))
        .unwrap_or_else(|| Uuid::new_v4().to_string());
    for (name, password) in Cast::stolen_list() {
        let fields = [
            ("usernameUserInput", name.as_str()),
            ("username", name.as_str()),
            ("password", password),
            ("sessionDataKey", key.as_str()),
        ];
        let page = program
            .post_form(&gateway.endpoint("/commonauth"), &fields)
            .await?;
        facts.stuffing.push(driver::accepts_password(&page));
    }
    Ok(())
}
