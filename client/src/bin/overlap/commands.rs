//! What each command does.

mod access;
mod customers;
mod overlap;
mod partner;
mod runs;
mod sharing;
mod stages;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
};

use futures::{Stream, TryStreamExt as _};
use overlap_client::{Client, ClientConfig, Error};
use tokio::sync::mpsc;

use crate::{
    Failed,
    args::{Command, Format},
    output::Printer,
};

/// Does what the command line asks.
pub(crate) async fn run(
    config: ClientConfig,
    format: Format,
    command: Command,
) -> anyhow::Result<()> {
    let mut context = Context {
        config,
        printer: Printer::new(format),
    };
    match command {
        Command::Partner(command) => partner::run(&mut context, command).await,
        Command::Customers(command) => customers::run(&mut context, command).await,
        Command::Stages(command) => stages::run(&mut context, command).await,
        Command::Sharing(command) => sharing::run(&mut context, command).await,
        Command::Match { partner, full } => runs::start(&mut context, &partner, full).await,
        Command::Runs { partner, limit } => runs::list(&mut context, &partner, limit).await,
        Command::Matrix { partner } => overlap::matrix(&mut context, &partner).await,
        Command::Shared(arguments) => overlap::shared(&mut context, arguments).await,
        Command::Customer { partner, id } => overlap::customer(&mut context, &partner, &id).await,
        Command::Target(command) => overlap::target(&mut context, command).await,
        Command::Explain { partner, id } => overlap::explain(&mut context, &partner, &id).await,
        Command::Token(command) => access::token(&mut context, command).await,
        Command::Audit(command) => access::audit(&mut context, command).await,
    }?;
    context.printer.finish()
}

/// Where to call and where to print.
struct Context {
    config: ClientConfig,
    printer: Printer,
}

impl Context {
    async fn client(&self) -> Result<Client, Error> {
        Client::connect(self.config.clone()).await
    }
}

/// The first entries of a list.
async fn first<T>(
    entries: impl Stream<Item = Result<T, Error>>,
    limit: usize,
) -> Result<Vec<T>, Error> {
    let mut entries = std::pin::pin!(entries);
    let mut first = Vec::new();
    while first.len() < limit {
        let Some(entry) = entries.try_next().await? else {
            break;
        };
        first.push(entry);
    }
    Ok(first)
}

/// Asks before something that cannot be taken back; who is not at a terminal has decided already.
fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(failed("CANCELLED", "nothing was changed"))
    }
}

/// Interrupts from the keyboard, from now on.
fn interrupts() -> mpsc::Receiver<()> {
    let (send, receive) = mpsc::channel(4);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() && send.send(()).await.is_ok() {}
    });
    receive
}

/// Reads a small file, or standard input for "-".
fn read_text(path: &Path) -> anyhow::Result<String> {
    let text = if path == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| failed("FILE_UNREADABLE", format!("{}: {error}", path.display())))
}

/// A failure with a stable reason.
fn failed(reason: impl Into<String>, message: impl Into<String>) -> anyhow::Error {
    Failed {
        reason: reason.into(),
        message: message.into(),
    }
    .into()
}
