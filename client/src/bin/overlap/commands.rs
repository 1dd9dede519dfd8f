//! What each command does.

/// The pages of a list whose answer says more than its rows, up to a limit, as one answer.
macro_rules! pages {
    ($client:ident.$list:ident($($argument:expr),*).$rows:ident, $limit:expr) => {{
        let limit: usize = $limit;
        let mut whole = $client.$list($($argument,)* $crate::commands::page(limit, "")).await?;
        whole.$rows.truncate(limit);
        while whole.$rows.len() < limit && !whole.next_page_token.is_empty() {
            let left = limit - whole.$rows.len();
            let request = $crate::commands::page(left, &whole.next_page_token);
            let mut next = $client.$list($($argument,)* request).await?;
            next.$rows.truncate(left);
            // A page that leads nowhere would never end.
            if next.$rows.is_empty() {
                break;
            }
            whole.$rows.append(&mut next.$rows);
            whole.next_page_token = next.next_page_token;
        }
        whole
    }};
}

mod access;
mod assets;
mod attribution;
mod changes;
mod customers;
mod engagement;
mod overlap;
mod partner;
mod program;
mod receipts;
mod records;
mod runs;
mod sending;
mod sharing;
mod stages;
mod timeline;
mod times;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use futures::{Stream, TryStreamExt as _};
use overlap_client::{Client, ClientConfig, Error, ExportFormat, PageRequest};
use tokio::sync::mpsc;

pub(crate) use receipts::Receipts;

use crate::{
    Failed,
    args::{Command, Format},
    output::Printer,
};

/// Does what the command line asks without a node, if it is of that kind.
pub(crate) fn offline(format: Format, command: &Command) -> Option<anyhow::Result<()>> {
    let Command::Receipts(Receipts::Verify(arguments)) = command else {
        return None;
    };
    let mut printer = Printer::new(format);
    let verified = receipts::verify(&mut printer, arguments);
    Some(printer.finish().and(verified))
}

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
        Command::Customer {
            partner,
            id,
            timeline,
        } => overlap::customer(&mut context, &partner, &id, timeline).await,
        Command::Timeline(command) => timeline::run(&mut context, command).await,
        Command::Attribution(command) => attribution::run(&mut context, command).await,
        Command::Assets(command) => assets::run(&mut context, command).await,
        Command::Engagement(command) => engagement::run(&mut context, command).await,
        Command::Program(command) => program::run(&mut context, *command).await,
        Command::Records(command) => records::run(&mut context, command).await,
        Command::Changes(command) => changes::run(&mut context, command).await,
        Command::Target(command) => overlap::target(&mut context, command).await,
        Command::Explain { partner, id } => overlap::explain(&mut context, &partner, &id).await,
        Command::Receipts(command) => receipts::run(&mut context, command).await,
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

/// A request for a page of at most so many rows.
fn page(rows: usize, token: &str) -> PageRequest {
    /// The largest page that nodes give.
    const LARGEST: u32 = 1000;
    PageRequest {
        size: u32::try_from(rows).unwrap_or(LARGEST).clamp(1, LARGEST),
        token: token.to_owned(),
    }
}

/// Where a file goes: to standard output, or under a name once it is whole.
enum Output<'a> {
    Stdout(&'a mut Printer),
    File {
        path: PathBuf,
        partial: PathBuf,
        file: io::BufWriter<std::fs::File>,
    },
}

impl<'a> Output<'a> {
    fn open(printer: &'a mut Printer, to: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = to.filter(|path| *path != Path::new("-")) else {
            return Ok(Self::Stdout(printer));
        };
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let partial = PathBuf::from(name);
        let file = std::fs::File::create(&partial).map_err(|error| {
            failed("FILE_UNWRITABLE", format!("{}: {error}", partial.display()))
        })?;
        Ok(Self::File {
            path: path.to_owned(),
            partial,
            file: io::BufWriter::new(file),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout(printer) => printer.bytes(bytes),
            Self::File { partial, file, .. } => file.write_all(bytes).map_err(|error| {
                failed("FILE_UNWRITABLE", format!("{}: {error}", partial.display()))
            }),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        let Self::File {
            path,
            partial,
            mut file,
        } = self
        else {
            return Ok(());
        };
        file.flush()
            .and_then(|()| std::fs::rename(&partial, &path))
            .map_err(|error| failed("FILE_UNWRITABLE", format!("{}: {error}", path.display())))
    }
}

/// How a node shall write a file: as the person says, or as they want answers.
fn export_format(printer: &Printer, format: Option<ExportFormat>) -> ExportFormat {
    format.unwrap_or(match printer.format {
        Format::Json => ExportFormat::Ndjson,
        _ => ExportFormat::Csv,
    })
}

/// Writes what a node streams as a file; a stream that breaks leaves no file under the name.
async fn save_stream(
    printer: &mut Printer,
    to: Option<&Path>,
    chunks: impl Stream<Item = Result<Vec<u8>, Error>>,
) -> anyhow::Result<()> {
    let mut chunks = std::pin::pin!(chunks);
    // A refusal comes before there is a file.
    let mut next = chunks.try_next().await?;
    let mut output = Output::open(printer, to)?;
    while let Some(chunk) = next {
        output.write(&chunk)?;
        next = chunks.try_next().await?;
    }
    output.finish()
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
