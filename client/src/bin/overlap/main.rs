//! `overlap`, the command line of an Overlap node.

mod args;
mod commands;
mod output;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use overlap_client::{
    BearerToken, ClientConfig, Error,
    terminal::{grid, progress, table},
};

use args::{Global, Overlap};

/// A failure with a stable reason that did not come from a call.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failed {
    reason: String,
    message: String,
}

fn main() -> ExitCode {
    let arguments = Overlap::parse();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let result = runtime.block_on(run(arguments));
            // A thread that still waits for a file or a terminal must not keep the process.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has what it wanted.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", error_line(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Overlap) -> anyhow::Result<()> {
    if let Some(done) = commands::offline(arguments.global.output, &arguments.command) {
        return done;
    }
    let config = node(&arguments.global)?;
    commands::run(config, arguments.global.output, arguments.command).await
}

/// Which node to call: the command line decides before the environment does.
fn node(global: &Global) -> Result<ClientConfig, Error> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (dir, node) = match (&global.dir, &global.node) {
        (None, None) => (
            variable("OVERLAP_DIR").map(Into::into),
            variable("OVERLAP_NODE"),
        ),
        (dir, node) => (dir.clone(), node.clone()),
    };
    let mut config = match (dir, node) {
        (Some(dir), None) => {
            if global.token_file.is_some() {
                usage("--token-file goes with --node: a node's directory has its own token");
            }
            ClientConfig::from_node_dir(dir)?
        }
        (None, Some(node)) => {
            let token_file = global
                .token_file
                .clone()
                .or_else(|| variable("OVERLAP_TOKEN_FILE").map(Into::into));
            let token = match token_file {
                Some(path) => BearerToken::from_file(path)?,
                None => match variable("OVERLAP_TOKEN") {
                    Some(secret) => BearerToken::new(&secret),
                    None => usage("--node needs a token: --token-file FILE, or OVERLAP_TOKEN"),
                },
            };
            ClientConfig::new(node).with_token(token)
        }
        (Some(_), Some(_)) => usage("OVERLAP_DIR and OVERLAP_NODE name two nodes: unset one"),
        (None, None) => usage("which node? --dir DIR, or --node URL with --token-file FILE"),
    };
    config.tls_ca_file = global
        .tls_ca
        .clone()
        .or_else(|| variable("OVERLAP_TLS_CA").map(Into::into));
    config.danger_plaintext = global.danger_plaintext;
    config.call_timeout = Duration::from_secs(global.timeout);
    Ok(config)
}

/// Ends with the exit code of wrong usage.
fn usage(problem: &str) -> ! {
    Overlap::command()
        .error(ErrorKind::MissingRequiredArgument, problem)
        .exit()
}

/// Everything to know about a failure in one line: sentence, stable reason, wrong fields that the
/// sentence leaves out, and what the node's log calls the call.
fn error_line(error: &anyhow::Error) -> String {
    let mut line = format!("error: {error}");
    if let Some(error) = error.downcast_ref::<Error>() {
        let message = error.to_string();
        line.push_str(&format!(" [{}]", error.reason()));
        let mut separator = ": ";
        for violation in error.violations() {
            if message.contains(&violation.field) && message.contains(&violation.problem) {
                continue;
            }
            line.push_str(&format!(
                "{separator}{}: {}",
                violation.field, violation.problem
            ));
            separator = "; ";
        }
        if let Some(id) = error.request_id() {
            line.push_str(&format!(" (request id: {id})"));
        }
    } else if let Some(error) = error.downcast_ref::<Failed>() {
        line.push_str(&format!(" [{}]", error.reason));
    }
    table::one_line(&line)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = match (
            cause.downcast_ref::<io::Error>(),
            cause.downcast_ref::<csv::Error>().map(csv::Error::kind),
            cause.downcast_ref::<serde_json::Error>(),
        ) {
            (Some(error), ..) => Some(error.kind()),
            (_, Some(csv::ErrorKind::Io(error)), _) => Some(error.kind()),
            (.., Some(error)) => error.io_error_kind(),
            _ => None,
        };
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}
