//! `make demo`: the main job in one command. Starts a simulated WSO2 IS and riskgate in front of it over TLS, drives a
//! short mixed traffic through both, prints each decision from the audit file, sums up, and stays up for a browser.
//!
//! It uses the two programs as anybody would: by their command lines, over sockets, through the audit file. It must not
//! reach into either, and it must leave nothing running behind.

#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod app;
mod audit;
mod cast;
mod chapters;
mod driver;
mod place;
mod programs;
mod screen;
mod stop;
mod summary;
mod verdicts;

use crate::app::App;
use crate::audit::Records;
use crate::cast::Cast;
use crate::driver::Gateway;
use crate::place::Place;
use crate::programs::Programs;
use crate::screen::Screen;
use crate::stop::Stop;
use anyhow::Context as _;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How often the one-time code on the terminal is brought up to date.
const CODE_EVERY: Duration = Duration::from_secs(1);

/// Shows riskgate at work in front of a simulated WSO2 Identity Server.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Args {
    /// End after the traffic; exit code 1 when something did not go as told. Takes free ports
    #[arg(long)]
    check: bool,
    /// Folder with the programs `riskgate` and `wso2-sim` [default: the parent of this program's folder]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Folder for everything that is written; it is kept [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Use the small address databases of the tests, which are read at once
    #[arg(long)]
    test_geo: bool,
    /// Milliseconds for state and model together; raise it for a debug build on a busy machine
    #[arg(long, value_name = "MS", default_value_t = 20)]
    budget_ms: u64,
}

// One thread suffices for the driver and leaves the cores to what is shown.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // A provider that is installed already serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let screen = Arc::new(Screen::new(stop.clone()));
    // Its folder goes when it goes: it must outlive the programs, which write there.
    let place = Place::prepare(args.dir.as_deref(), args.check, &screen)?;
    let mut programs = Programs::default();
    let result = tokio::select! {
        result = show(&args, &screen, &place, &mut programs, &stop) => result,
        () = stop.wait() => Ok(ExitCode::SUCCESS),
    };
    if result.is_err() {
        for text in programs.last_words() {
            screen.line(&text);
        }
    }
    if programs.are_started() {
        screen.progress("stopping what was started");
        programs.stop(&stop).await;
        screen.progress("everything that was started has ended");
    }
    // Interrupted before its end, a check has shown nothing.
    if args.check && stop.is_set() {
        return Ok(ExitCode::FAILURE);
    }
    result
}

async fn show(
    args: &Args,
    screen: &Arc<Screen>,
    place: &Place,
    programs: &mut Programs,
    stop: &Stop,
) -> anyhow::Result<ExitCode> {
    let cast = Cast::choose(&place.root, args.test_geo, screen);
    place.write_config(cast.geo(), args.budget_ms)?;
    let bin_dir = match &args.bin_dir {
        Some(dir) => dir.clone(),
        None => programs::default_bin_dir()?,
    };
    programs.start_wso2(&bin_dir, place, screen).await?;
    programs.start_riskgate(&bin_dir, place, screen).await?;

    let records = Arc::new(Records::of(place.admin_address())?);
    let faces = place.faces(&cast)?;
    let follower = audit::follow(
        place.audit_file(),
        faces,
        Arc::clone(&records),
        Arc::clone(screen),
    );
    let follower = tokio::spawn(follower);
    let gateway = Gateway::new(place)?;

    let app = App::new(place, gateway.clone(), Arc::clone(&records))?;
    let app_server = if args.check {
        None
    } else {
        let listener = tokio::net::TcpListener::bind(place.app_address()).await;
        let listener = listener.context("the demo application cannot listen")?;
        Some(tokio::spawn(app::serve(listener, app.clone())))
    };

    screen::print_heads(screen);
    let facts = chapters::play(&gateway, &cast, &records, screen).await?;
    records.settle().await;
    let told = verdicts::of(&records, &facts);
    summary::print(screen, &records, &told);
    let is_fine = told.iter().all(|told| told.holds);

    if args.check {
        follower.abort();
        return Ok(if is_fine {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    invite(screen, place, &app, args);
    let ended = tokio::select! {
        ended = stay(screen, programs) => ended,
        () = stop.wait() => Ok(()),
    };
    follower.abort();
    if let Some(server) = app_server {
        server.abort();
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// Says what a person can do now.
fn invite(screen: &Screen, place: &Place, app: &App, args: &Args) {
    let keeps = if args.dir.is_some() {
        "kept"
    } else {
        "removed at the end"
    };
    let lines = [
        String::new(),
        screen.strong("Now in a browser (it will warn: the certificate was made for this demo)"),
        format!("  start here      {}/", place.app_url()),
        format!("  or sign in at   {}", app.authorize_url()),
        "  as              alice, password wonderland, and the one-time code below if asked for it"
            .to_owned(),
        "                  or as grace, password grace-pw-1: she is at home elsewhere, so that you are a stranger"
            .to_owned(),
        format!("  metrics         http://{}/metrics", place.admin_address()),
        format!(
            "  health          http://{}/health/ready",
            place.admin_address()
        ),
        format!(
            "  audit records   {} ({keeps})",
            place.audit_file().display()
        ),
        format!("  logs            {}/*.log", place.dir().display()),
    ];
    for line in lines {
        screen.line(&line);
    }
    if !screen.is_terminal() {
        screen.line("  one-time code   cargo run --quiet --release -p wso2-sim -- --totp alice");
    }
    screen.line("  Ctrl-C stops everything.");
    screen.line("");
}

/// Stays up, with the current one-time code on the last line, until a program ends by itself.
async fn stay(screen: &Screen, programs: &mut Programs) -> anyhow::Result<()> {
    loop {
        programs.check()?;
        let (code, seconds) = cast::alice_code();
        screen.status(&format!(
            "alice's one-time code: {code} (the next one in {seconds} s)"
        ));
        tokio::time::sleep(CODE_EVERY).await;
    }
}
