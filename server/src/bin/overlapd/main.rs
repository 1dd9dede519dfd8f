//! overlapd, the Overlap node.

mod demo;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand, ValueEnum};
use overlap_server::{
    clock::SystemClock,
    config::Config,
    error::Error,
    identity::fingerprint,
    node::{
        self, InitOptions,
        doctor::{self, Health},
    },
    serve, telemetry,
};

/// Finds the customers that two companies share, without showing either the other's.
#[derive(Parser)]
#[command(name = "overlapd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a node's directory: configuration, keys, store, and a token for its first administrator.
    Init(Init),
    /// Runs the node in a directory.
    Serve {
        /// The node's directory.
        #[arg(long, env = "OVERLAP_DIR")]
        dir: PathBuf,
    },
    /// Looks for what is wrong with a node's directory and its surroundings.
    Doctor {
        /// The node's directory.
        #[arg(long, env = "OVERLAP_DIR")]
        dir: PathBuf,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Runs two nodes on loopback with two companies' customers, matches them, and shows what each side sees.
    Demo(demo::Demo),
}

#[derive(clap::Args)]
struct Init {
    /// The directory, which must not exist or be empty.
    #[arg(long, env = "OVERLAP_DIR")]
    dir: PathBuf,
    /// This organisation's name, as partners see it.
    #[arg(long, value_name = "NAME")]
    organization: String,
    /// Address of the listener that partners' nodes call [default: 0.0.0.0:7650].
    #[arg(long, value_name = "ADDRESS")]
    exchange_listen: Option<SocketAddr>,
    /// Address of the API listener [default: 127.0.0.1:7651].
    #[arg(long, value_name = "ADDRESS")]
    api_listen: Option<SocketAddr>,
    /// Where partners reach the exchange listener.
    #[arg(long, value_name = "HOST:PORT")]
    exchange_endpoint: Option<String>,
    /// File with the 32-byte key under which secrets are sealed at rest.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Init(init) => make(init).map_err(anyhow::Error::from),
        Command::Serve { dir } => run(&dir).map_err(anyhow::Error::from),
        Command::Doctor { dir, output } => examine(&dir, output).map_err(anyhow::Error::from),
        Command::Demo(demo) => demo::run(demo),
    };
    result.unwrap_or_else(|error| {
        eprintln!("overlapd: {error:#}");
        ExitCode::FAILURE
    })
}

fn make(init: Init) -> Result<ExitCode, Error> {
    let identity = node::init(
        &init.dir,
        InitOptions {
            organization: init.organization,
            exchange_listen: init.exchange_listen,
            exchange_endpoint: init.exchange_endpoint,
            api_listen: init.api_listen,
            key_file: init.key_file,
        },
        &SystemClock,
    )?;
    let dir = init.dir.display();
    println!("made a node in {dir}");
    println!(
        "fingerprint: {}",
        fingerprint(&identity.certificate_sha256())
    );
    println!("administrator's token: {dir}/{}", node::ADMIN_TOKEN);
    println!("next: overlapd serve --dir {dir}");
    Ok(ExitCode::SUCCESS)
}

fn run(dir: &std::path::Path) -> Result<ExitCode, Error> {
    serve::forbid_core_dumps()?;
    telemetry::start(&Config::read(dir)?.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("runtime: {error}")))?;
    runtime.block_on(async {
        let running = serve::start(dir, Arc::new(SystemClock)).await?;
        println!(
            "overlapd ready: {}, api {}, exchange {}, engine {}",
            running.node.config.organization,
            running.api_addr,
            running.exchange_addr,
            running
                .node
                .config
                .engine()
                .map_err(Error::internal)?
                .name(),
        );
        running.until_signal().await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn examine(dir: &std::path::Path, output: Output) -> Result<ExitCode, Error> {
    let findings = doctor::examine(dir, &SystemClock);
    match output {
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(&findings)
                .map_err(|error| Error::internal(format!("findings: {error}")))?
        ),
        Output::Table => {
            for finding in &findings {
                println!(
                    "{:8} {:14} {}",
                    finding.health, finding.check, finding.detail
                );
            }
        }
    }
    let bad = findings.iter().any(|finding| finding.health == Health::Bad);
    Ok(if bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
