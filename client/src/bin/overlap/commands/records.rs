//! `overlap records`

use std::path::Path;

use futures::TryStreamExt as _;
use overlap_client::{
    Client, Record, RecordColumns, RecordFileFormat, RecordImport, RecordKind, RecordsReport,
};

use super::{Context, Output, failed, first, sending::Sending};
use crate::{
    args::{Format, Records},
    output::{Value, rows},
    table::{Entry, Tone, grouped},
};

/// Columns of a record that fit on a screen.
const SHOWN: usize = 8;

pub(super) async fn run(context: &mut Context, command: Records) -> anyhow::Result<()> {
    match command {
        Records::Import { file, kind, format } => import(context, &file, kind, format).await,
        Records::Export {
            kind,
            partner,
            format,
            to,
        } => {
            let client = context.client().await?;
            let format = format.unwrap_or(match context.printer.format {
                Format::Json => RecordFileFormat::Ndjson,
                _ => RecordFileFormat::Csv,
            });
            let mut output = Output::open(&mut context.printer, to.as_deref())?;
            export(&client, kind, partner.as_deref(), format, &mut output).await?;
            output.finish()
        }
        Records::List {
            kind,
            partner,
            limit,
        } => {
            let client = context.client().await?;
            let records = first(client.records(kind, partner.as_deref()), limit).await?;
            list(context, kind, &records)
        }
        Records::Show { kind, id } => {
            let record = context.client().await?.record(kind, &id).await?;
            show(context, kind, &record)
        }
    }
}

fn format_of(path: &Path) -> anyhow::Result<RecordFileFormat> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    match extension.as_str() {
        "csv" => Ok(RecordFileFormat::Csv),
        "ndjson" | "jsonl" => Ok(RecordFileFormat::Ndjson),
        "parquet" => Ok(RecordFileFormat::Parquet),
        _ => Err(failed(
            "INVALID_ARGUMENT",
            format!(
                "{}: the file's extension does not tell its format: add --format csv, ndjson or parquet",
                path.display()
            ),
        )),
    }
}

async fn import(
    context: &mut Context,
    file: &Path,
    kind: Option<RecordKind>,
    format: Option<RecordFileFormat>,
) -> anyhow::Result<()> {
    let format = match format {
        Some(format) => format,
        None => format_of(file)?,
    };
    if format != RecordFileFormat::Ndjson && kind.is_none() {
        return Err(failed(
            "INVALID_ARGUMENT",
            format!(
                "{}: a CSV or Parquet file does not tell what its lines are: add --kind deals, portal-events, partner-profiles ...",
                file.display()
            ),
        ));
    }
    let (content, sending) = Sending::open(file).await?;
    let import = RecordImport {
        file_name: file
            .file_name()
            .unwrap_or(file.as_os_str())
            .to_string_lossy()
            .into_owned(),
        format,
        kind,
    };
    let client = context.client().await?;
    let call = client.import_records(import, content, sending.counter());
    let report: RecordsReport = sending.follow(call).await?;
    let printer = &mut context.printer;
    match printer.format {
        Format::Json => printer.json(&report),
        Format::Csv => printer.csv(
            &["inserted", "updated", "unchanged"].map(str::to_owned),
            [[report.inserted, report.updated, report.unchanged]
                .map(|count| count.to_string())
                .to_vec()],
        ),
        Format::Table => printer.line(&format!(
            "{}: {} new, {} changed, {} unchanged",
            file.display(),
            grouped(report.inserted),
            grouped(report.updated),
            grouped(report.unchanged)
        )),
    }
}

async fn export(
    client: &Client,
    kind: RecordKind,
    partner: Option<&str>,
    format: RecordFileFormat,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let columns = RecordColumns::of(kind);
    let mut records = std::pin::pin!(client.records(kind, partner));
    // The first page comes before anything is written: a refusal leaves no half a file.
    let mut next = records.try_next().await?;
    let line = |cells: Vec<String>| -> anyhow::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(cells)?;
        Ok(writer.into_inner().map_err(|error| error.into_error())?)
    };
    if format == RecordFileFormat::Csv {
        output.write(&line(columns.names().map(str::to_owned).collect())?)?;
    }
    while let Some(record) = next {
        match format {
            RecordFileFormat::Csv => output.write(&line(columns.cells(&record)?)?)?,
            _ => {
                output.write(&serde_json::to_vec(&record)?)?;
                output.write(b"\n")?;
            }
        }
        next = records.try_next().await?;
    }
    Ok(())
}

fn list(context: &mut Context, kind: RecordKind, records: &[Record]) -> anyhow::Result<()> {
    let columns = RecordColumns::of(kind);
    let cells = records
        .iter()
        .map(|record| columns.cells(record))
        .collect::<Result<Vec<_>, _>>()?;
    let printer = &mut context.printer;
    let header: Vec<String> = columns.names().map(str::to_owned).collect();
    match printer.format {
        Format::Json => printer.json(&records),
        Format::Csv => printer.csv(&header, cells),
        Format::Table if records.is_empty() => printer.line(&format!(
            "No records: \"overlap records import FILE --kind {}\" loads some.",
            kind.name().to_lowercase().replace('_', "-")
        )),
        Format::Table => {
            // Columns that say something, as many as fit.
            let filled: Vec<usize> = (0..header.len())
                .filter(|index| header[*index] != "updated_at")
                .filter(|index| cells.iter().any(|row| !row[*index].is_empty()))
                .collect();
            let shown = &filled[..filled.len().min(SHOWN)];
            let header: Vec<String> = shown
                .iter()
                .map(|index| header[*index].replace('_', " ").to_uppercase())
                .collect();
            let cells: Vec<Vec<Value>> = cells
                .iter()
                .map(|row| {
                    shown
                        .iter()
                        .map(|index| Value::from(&row[*index]))
                        .collect()
                })
                .collect();
            let text = rows(printer.paint, &header, &cells);
            printer.text(&text)?;
            if filled.len() > SHOWN {
                printer.line("")?;
                printer.line(&format!(
                    "{} more columns: \"overlap records show\" has them, and --output json or csv.",
                    filled.len() - SHOWN
                ))?;
            }
            Ok(())
        }
    }
}

fn show(context: &mut Context, kind: RecordKind, record: &Record) -> anyhow::Result<()> {
    let columns = RecordColumns::of(kind);
    let cells = columns.cells(record)?;
    let printer = &mut context.printer;
    match printer.format {
        Format::Json => printer.json(record),
        Format::Csv => {
            let header: Vec<String> = columns.names().map(str::to_owned).collect();
            printer.csv(&header, [cells])
        }
        Format::Table => {
            let lines: Vec<(String, Entry)> = columns
                .names()
                .zip(&cells)
                .filter(|(_, cell)| !cell.is_empty())
                .map(|(name, cell)| {
                    let entry = Entry {
                        text: crate::table::one_line(cell),
                        tone: Tone::Plain,
                    };
                    (name.replace('_', " "), entry)
                })
                .collect();
            printer.properties(0, &lines)
        }
    }
}
