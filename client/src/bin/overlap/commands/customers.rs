//! `overlap customers`

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use futures::{TryStreamExt as _, stream};
use overlap_client::{
    Customer, CustomerFilter, Error, Import, ImportFormat, ImportReport, UpsertReport,
};
use tokio::{
    fs::File,
    io::{AsyncRead, ReadBuf},
    sync::oneshot,
};

use super::{Context, failed, first, interrupts, read_text};
use crate::{
    args::{Customers, Format},
    output::{Column, Value},
    progress::{Meter, bytes_line},
    table::grouped,
};

pub(super) async fn run(context: &mut Context, command: Customers) -> anyhow::Result<()> {
    match command {
        Customers::Import {
            file,
            format,
            replace,
            default_region,
        } => {
            let format = match format.or_else(|| ImportFormat::of_path(&file)) {
                Some(format) => format,
                None => {
                    return Err(failed(
                        "INVALID_ARGUMENT",
                        format!(
                            "{}: the file's extension does not tell its format: add --format csv, ndjson or parquet",
                            file.display()
                        ),
                    ));
                }
            };
            let import = Import {
                file_name: file
                    .file_name()
                    .unwrap_or(file.as_os_str())
                    .to_string_lossy()
                    .into_owned(),
                format,
                default_region,
                replace_all: replace,
                size_bytes: None,
            };
            let report = import_file(context, &file, import).await?;
            show_report(context, &file, &report)
        }
        Customers::List {
            stage,
            search,
            limit,
        } => list(context, CustomerFilter { stage, search }, limit).await,
        Customers::Delete { ids, from } => {
            let ids = match from {
                Some(path) => read_text(&path)?
                    .lines()
                    .map(|line| line.trim().to_owned())
                    .filter(|line| !line.is_empty())
                    .collect(),
                None => ids,
            };
            let named = ids.len() as u64;
            let client = context.client().await?;
            let deleted = client.delete_customers(stream::iter(ids)).await?;
            let printer = &mut context.printer;
            match printer.format {
                Format::Json => printer.json(&serde_json::json!({ "deleted": deleted })),
                Format::Csv => printer.csv(&["deleted".to_owned()], [vec![deleted.to_string()]]),
                Format::Table => printer.line(&format!(
                    "{} of {} customers deleted",
                    grouped(deleted),
                    grouped(named)
                )),
            }
        }
    }
}

/// Sends a file and says on the terminal how far it is.
async fn import_file(
    context: &Context,
    path: &Path,
    mut import: Import,
) -> anyhow::Result<ImportReport> {
    let unreadable = |error| failed("FILE_UNREADABLE", format!("{}: {error}", path.display()));
    let file = File::open(path).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(failed(
            "FILE_UNREADABLE",
            format!("{}: is a directory", path.display()),
        ));
    }
    // A pipe has no size that says anything.
    import.size_bytes = metadata.is_file().then_some(metadata.len());
    let total = import.size_bytes.unwrap_or_default();
    let client = context.client().await?;
    let (stop, stopped) = oneshot::channel();
    let mut stop = Some(stop);
    let content = Stoppable { file, stopped };
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let mut call = std::pin::pin!(client.import_customers(import, content, move |bytes| {
        counter.store(bytes, Ordering::Relaxed);
    }));
    let mut interrupts = interrupts();
    let mut meter = Meter::new();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            report = &mut call => {
                meter.clear();
                return match report {
                    Err(Error::File { source, .. }) if source.get_ref().is_some_and(|cause| cause.is::<Stopped>()) => {
                        Err(failed("CANCELLED", "the import was cancelled: nothing was changed"))
                    }
                    report => Ok(report?),
                };
            }
            _ = tick.tick() => meter.show(&bytes_line(sent.load(Ordering::Relaxed), total)),
            Some(()) = interrupts.recv() => match stop.take() {
                Some(stop) => {
                    let _ = stop.send(());
                }
                None => return Err(failed("INTERRUPTED", "left before the node answered")),
            },
        }
    }
}

/// A file whose reading can be broken off, so that the node learns that the rest is missing.
struct Stoppable {
    file: File,
    stopped: oneshot::Receiver<()>,
}

/// Somebody broke off the reading; a kind of its own, because an error of the kind "interrupted" is retried.
#[derive(Debug, thiserror::Error)]
#[error("reading was broken off")]
struct Stopped;

impl AsyncRead for Stoppable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if Pin::new(&mut self.stopped).poll(context) == Poll::Ready(Ok(())) {
            return Poll::Ready(Err(io::Error::other(Stopped)));
        }
        Pin::new(&mut self.file).poll_read(context, buffer)
    }
}

fn show_report(context: &mut Context, file: &Path, report: &ImportReport) -> anyhow::Result<()> {
    let printer = &mut context.printer;
    match printer.format {
        Format::Json => printer.json(report),
        Format::Csv => {
            let columns = [
                Column::number("inserted", |report: &UpsertReport| {
                    Value::Number(report.inserted)
                }),
                Column::number("updated", |report: &UpsertReport| {
                    Value::Number(report.updated)
                }),
                Column::number("unchanged", |report: &UpsertReport| {
                    Value::Number(report.unchanged)
                }),
                Column::number("deleted", |report: &UpsertReport| {
                    Value::Number(report.deleted)
                }),
                Column::number("unusable_identifiers", |report: &UpsertReport| {
                    Value::Number(report.unusable_identifiers.values().sum())
                }),
            ];
            printer.csv_records(std::slice::from_ref(&report.customers), &columns)
        }
        Format::Table => {
            let fields = report.field_columns.join(", ");
            let report = &report.customers;
            printer.line(&format!(
                "{}: {} new, {} changed, {} unchanged, {} deleted",
                file.display(),
                grouped(report.inserted),
                grouped(report.updated),
                grouped(report.unchanged),
                grouped(report.deleted)
            ))?;
            if !fields.is_empty() {
                printer.line(&format!("Columns kept as fields: {fields}"))?;
            }
            if !report.unusable_identifiers.is_empty() {
                printer.line("Identifiers that are kept but cannot be matched:")?;
                for (reason, number) in &report.unusable_identifiers {
                    printer.line(&format!("  {reason}  {}", grouped(*number)))?;
                }
            }
            Ok(())
        }
    }
}

async fn list(
    context: &mut Context,
    filter: CustomerFilter,
    limit: Option<usize>,
) -> anyhow::Result<()> {
    let client = context.client().await?;
    let limit = limit.unwrap_or(usize::MAX);
    let printer = &mut context.printer;
    if printer.format == Format::Json {
        let customers = client.customers(filter);
        let mut customers = std::pin::pin!(customers);
        let mut list = printer.json_list();
        for _ in 0..limit {
            let Some(customer) = customers.try_next().await? else {
                break;
            };
            list.push(&customer)?;
        }
        return list.end();
    }
    let none = if filter == CustomerFilter::default() {
        "No customers yet: \"overlap customers import FILE\" loads them."
    } else {
        "No customer matches."
    };
    let customers = first(client.customers(filter), limit).await?;
    printer.list(&customers, &columns(), none)
}

fn columns() -> Vec<Column<'static, Customer>> {
    vec![
        Column::text("id", |customer: &Customer| &customer.id),
        Column::text("stage", |customer: &Customer| &customer.stage),
        Column::text("name", |customer: &Customer| &customer.name),
        Column::new("email", |customer: &Customer| customer.emails.join(";")),
        Column::new("phone", |customer: &Customer| customer.phones.join(";")),
        Column::new("domain", |customer: &Customer| customer.domains.join(";")),
        Column::new("external_id", |customer: &Customer| {
            customer.external_ids.join(";")
        }),
        Column::text("owner", |customer: &Customer| &customer.owner),
        Column::text("industry", |customer: &Customer| &customer.industry),
        Column::text("region", |customer: &Customer| &customer.region),
        Column::new("private", |customer: &Customer| {
            Value::Flag(customer.private)
        }),
    ]
}
