//! `overlap assets`

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use futures::TryStreamExt as _;
use overlap_client::{Asset, Download, NewAsset, SharedAsset};

use super::{Context, confirm, failed, first};
use crate::{
    args::{Assets, Format},
    output::{Column, Report, Sheet, Value},
    progress::{Meter, bytes, bytes_line},
};

pub(super) async fn run(context: &mut Context, command: Assets) -> anyhow::Result<()> {
    match command {
        Assets::Add {
            file,
            kind,
            title,
            media_type,
            request_id,
        } => {
            let new = NewAsset {
                kind,
                title,
                file_name: file_name(&file)?,
                media_type: media_type.or_else(|| media_type_of(&file).map(str::to_owned)),
                request_id,
            };
            let total = tokio::fs::metadata(&file)
                .await
                .map_or(0, |metadata| metadata.len());
            let client = context.client().await?;
            let mut meter = Meter::new();
            let asset = client
                .upload_asset(&file, new, move |sent| meter.show(&bytes_line(sent, total)))
                .await?;
            context.printer.record(&asset, &columns())
        }
        Assets::List {
            from,
            with,
            kind,
            limit,
        } => {
            let client = context.client().await?;
            match (from, with) {
                (Some(partner), _) => {
                    let assets = first(client.assets_from_partner(&partner, kind), limit).await?;
                    list_shared(
                        context,
                        &assets,
                        &format!("{partner} shares no files with you."),
                    )
                }
                (None, Some(partner)) => {
                    let assets =
                        first(client.assets_shared_with_partner(&partner, kind), limit).await?;
                    list_shared(
                        context,
                        &assets,
                        &format!("You share no files with {partner}."),
                    )
                }
                (None, None) => {
                    let assets = first(client.assets(kind), limit).await?;
                    list_own(context, &assets)
                }
            }
        }
        Assets::Share {
            partner,
            id,
            description,
        } => {
            let shared = context
                .client()
                .await?
                .share_asset(&partner, &id, description.as_deref())
                .await?;
            context.printer.record(&shared, &shared_columns())
        }
        Assets::Unshare { partner, id } => {
            context.client().await?.unshare_asset(&partner, &id).await?;
            done(
                context,
                &id,
                &format!("{id} is no longer shared with {partner}."),
            )
        }
        Assets::Download {
            id,
            from,
            to,
            force,
        } => download(context, from.as_deref(), &id, to, force).await,
        Assets::Remove { id, yes } => {
            confirm(
                &format!("Delete {id}, also at partners it was shared with?"),
                yes,
            )?;
            context.client().await?.delete_asset(&id).await?;
            done(context, &id, &format!("{id} is deleted."))
        }
    }
}

fn done(context: &mut Context, id: &str, sentence: &str) -> anyhow::Result<()> {
    let printer = &mut context.printer;
    match printer.format {
        Format::Json => printer.json(&serde_json::json!({ "id": id })),
        Format::Csv => printer.csv(&["id".to_owned()], [vec![id.to_owned()]]),
        Format::Table => printer.line(sentence),
    }
}

fn file_name(file: &Path) -> anyhow::Result<String> {
    file.file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            failed(
                "INVALID_ARGUMENT",
                format!("{}: has no name to save it under", file.display()),
            )
        })
}

fn media_type_of(file: &Path) -> Option<&'static str> {
    Some(
        match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "pdf" => "application/pdf",
            "txt" | "md" => "text/plain",
            "csv" => "text/csv",
            "html" => "text/html",
            "png" => "image/png",
            "jpg" | "jpeg" => "image/jpeg",
            "svg" => "image/svg+xml",
            "zip" => "application/zip",
            "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            _ => return None,
        },
    )
}

fn columns() -> Vec<Column<'static, Asset>> {
    vec![
        Column::text("id", |asset: &Asset| &asset.id),
        Column::new("kind", |asset: &Asset| asset.kind.name()),
        Column::text("title", |asset: &Asset| &asset.title),
        Column::text("file_name", |asset: &Asset| &asset.file_name),
        Column::text("media_type", |asset: &Asset| &asset.media_type),
        Column::new("size_bytes", |asset: &Asset| {
            Value::Number(asset.size_bytes)
        }),
        Column::text("sha256", |asset: &Asset| &asset.sha256),
        Column::new("created_at", |asset: &Asset| Value::Time(asset.created_at)),
        Column::new("shared_with", |asset: &Asset| asset.shared_with.join(";")),
    ]
}

fn shared_columns() -> Vec<Column<'static, SharedAsset>> {
    vec![
        Column::text("id", |shared: &SharedAsset| &shared.asset.id),
        Column::text("partner", |shared: &SharedAsset| &shared.partner),
        Column::new("kind", |shared: &SharedAsset| shared.asset.kind.name()),
        Column::text("title", |shared: &SharedAsset| &shared.asset.title),
        Column::text("file_name", |shared: &SharedAsset| &shared.asset.file_name),
        Column::new("size_bytes", |shared: &SharedAsset| {
            Value::Number(shared.asset.size_bytes)
        }),
        Column::text("sha256", |shared: &SharedAsset| &shared.asset.sha256),
        Column::text("description", |shared: &SharedAsset| &shared.description),
        Column::new("shared_at", |shared: &SharedAsset| {
            Value::Time(shared.shared_at)
        }),
    ]
}

fn asset_columns() -> Sheet {
    Sheet::new()
        .text("id")
        .text("kind")
        .text("title")
        .text("file_name")
        .field("media_type")
        .number("size_bytes")
}

fn asset_values(asset: &Asset) -> Vec<Value> {
    vec![
        Value::from(&asset.id),
        Value::name(asset.kind.name()),
        Value::from(&asset.title),
        Value::from(&asset.file_name),
        Value::from(&asset.media_type),
        Value::Shown {
            text: bytes(asset.size_bytes),
            field: asset.size_bytes.to_string(),
        },
    ]
}

/// Enough of a hash to tell files apart; "overlap assets download" checks all of it.
fn sha256(asset: &Asset) -> Value {
    let start: String = asset.sha256.chars().take(12).collect();
    Value::Shown {
        text: format!("{start}…"),
        field: asset.sha256.clone(),
    }
}

fn list_own(context: &mut Context, assets: &[Asset]) -> anyhow::Result<()> {
    let mut sheet = asset_columns()
        .text("sha256")
        .text("created_at")
        .look_number("partners")
        .field("shared_with");
    for asset in assets {
        let mut row = asset_values(asset);
        row.extend([
            sha256(asset),
            Value::time(asset.created_at),
            Value::Number(asset.shared_with.len() as u64),
            Value::from(asset.shared_with.join(";")),
        ]);
        sheet.push(row);
    }
    let none = "No files yet: \"overlap assets add FILE\" stores one.";
    context.printer.report(&assets, Report::new(sheet, none))
}

fn list_shared(context: &mut Context, assets: &[SharedAsset], none: &str) -> anyhow::Result<()> {
    let mut sheet = asset_columns()
        .text("sha256")
        .text("shared_at")
        .text("description")
        .field("partner");
    for shared in assets {
        let mut row = asset_values(&shared.asset);
        row.extend([
            sha256(&shared.asset),
            Value::time(shared.shared_at),
            Value::from(&shared.description),
            Value::from(&shared.partner),
        ]);
        sheet.push(row);
    }
    context.printer.report(&assets, Report::new(sheet, none))
}

async fn download(
    context: &mut Context,
    partner: Option<&str>,
    id: &str,
    to: Option<PathBuf>,
    force: bool,
) -> anyhow::Result<()> {
    let client = context.client().await?;
    let download = client.download_asset(partner, id).await?;
    let asset = download.asset.clone();
    if to.as_deref() == Some(Path::new("-")) {
        // Nothing is written before all of it was checked.
        let content = whole(download).await?;
        return context.printer.bytes(&content);
    }
    let path = match to {
        Some(path) => path,
        None => own_name(&asset.file_name)?,
    };
    if !force && path.exists() {
        return Err(failed(
            "ALREADY_EXISTS",
            format!(
                "{}: exists; --force replaces it, --to FILE saves elsewhere",
                path.display()
            ),
        ));
    }
    let content = whole(download).await?;
    save(&path, &content)
        .map_err(|error| failed("FILE_UNWRITABLE", format!("{}: {error}", path.display())))?;
    let printer = &mut context.printer;
    let saved = path.display().to_string();
    match printer.format {
        Format::Json => {
            let mut record = serde_json::to_value(&asset)?;
            record["saved_to"] = saved.into();
            printer.json(&record)
        }
        Format::Csv => {
            let mut header: Vec<String> = columns().into_iter().map(|column| column.name).collect();
            header.push("saved_to".to_owned());
            let mut row: Vec<String> = columns()
                .iter()
                .map(|column| column.field(&asset))
                .collect();
            row.push(saved);
            printer.csv(&header, [row])
        }
        Format::Table => {
            printer.line(&format!("{saved}: {} saved", bytes(asset.size_bytes)))?;
            printer.line(&format!("sha256 {} checked", asset.sha256))
        }
    }
}

/// The bytes, checked.
async fn whole(mut download: Download) -> anyhow::Result<Vec<u8>> {
    let total = download.asset.size_bytes;
    let mut content = Vec::new();
    let mut meter = Meter::new();
    while let Some(chunk) = download.chunks.try_next().await? {
        content.extend_from_slice(&chunk);
        meter.show(&format!(
            "receiving  {} / {}",
            bytes(content.len() as u64),
            bytes(total)
        ));
    }
    Ok(content)
}

/// A name that comes from a partner must not lead out of this folder.
fn own_name(name: &str) -> anyhow::Result<PathBuf> {
    let plain = Path::new(name).file_name().and_then(|name| name.to_str());
    if plain != Some(name) || name.starts_with('.') || name.contains(['\\', ':']) {
        return Err(failed(
            "INVALID_ARGUMENT",
            format!(
                "the file is called \"{}\", which is no name to save it under: use --to FILE",
                name.escape_debug()
            ),
        ));
    }
    Ok(PathBuf::from(name))
}

/// All of it or nothing, also if the disk is full.
fn save(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let partial = folder.join(format!(".{name}.{}.part", std::process::id()));
    let written = std::fs::File::create_new(&partial)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::own_name;

    #[test]
    fn a_partners_name_stays_in_this_folder() {
        assert!(own_name("Sheet 1.pdf").is_ok());
        for name in [
            "",
            "..",
            "../x",
            "/etc/passwd",
            ".bashrc",
            "a/b",
            "a\\b",
            "C:x",
        ] {
            assert!(own_name(name).is_err(), "{name}");
        }
    }
}
