//! `overlap customers`

use std::path::Path;

use futures::{TryStreamExt as _, stream};
use overlap_client::{Customer, CustomerFilter, Import, ImportFormat, ImportReport, UpsertReport};

use super::{Context, failed, first, read_text, sending::Sending};
use crate::{
    args::{Customers, Format},
    output::{Column, Value},
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
    let (content, sending) = Sending::open(path).await?;
    import.size_bytes = sending.size_bytes();
    let client = context.client().await?;
    let call = client.import_customers(import, content, sending.counter());
    sending.follow(call).await
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
    if printer.format == Format::Csv {
        // The columns are those of an import, which would take a mark for part of the value.
        return printer.csv_records_as_is(&customers, &columns());
    }
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
