//! `AssetService`.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use overlap_proto::v1::{
    self, DeleteAssetRequest, DeleteAssetResponse, DownloadAssetRequest, DownloadAssetResponse,
    ListAssetsFromPartnerRequest, ListAssetsFromPartnerResponse, ListAssetsRequest,
    ListAssetsResponse, ListAssetsSharedWithPartnerRequest, ListAssetsSharedWithPartnerResponse,
    ShareAssetRequest, ShareAssetResponse, UnshareAssetRequest, UnshareAssetResponse,
    UploadAssetRequest, UploadAssetResponse, asset_service_server::AssetService,
    download_asset_response, upload_asset_request,
};
use rusqlite::{Connection, Transaction};
use tonic::{Request, Response, Status, Streaming};

use super::{
    MAX_MEDIA_TYPE_CHARS, MAX_NAME_CHARS, MAX_OWN, MAX_OWN_BYTES, fetch,
    files::{self, Incoming},
    notices::{is_plain_name, tell_shared, tell_unshared},
    rows::{self, Asset, Shared},
};
use crate::{
    audit,
    auth::{Caller, Role},
    changes::{self, Kind},
    collaboration::{PageRequest, line, newest_first, paragraph, remember, repeated},
    error::{Error, Reason},
    identity::new_id,
    node::Node,
    partnership,
    storage::blocking,
};

const UPLOAD: &str = "asset.upload";

/// `overlap.v1.AssetService`.
pub struct Service {
    node: Arc<Node>,
}

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    async fn upload(
        &self,
        caller: Caller,
        mut parts: Streaming<UploadAssetRequest>,
    ) -> Result<Asset, Error> {
        let first = parts.message().await.map_err(|status| broken(&status))?;
        let Some(upload_asset_request::Part::Header(header)) = first.and_then(|first| first.part)
        else {
            return Err(Error::invalid("header", "must come first"));
        };
        let header = Header::parse(header)?;
        let node = Arc::clone(&self.node);
        let mut incoming = blocking(move || Incoming::create(&node)).await?;
        while let Some(message) = parts.message().await.map_err(|status| broken(&status))? {
            let Some(upload_asset_request::Part::Chunk(chunk)) = message.part else {
                return Err(Error::invalid("chunk", "must follow the header"));
            };
            incoming = blocking(move || {
                incoming.append(&chunk)?;
                Ok(incoming)
            })
            .await?;
        }
        let node = Arc::clone(&self.node);
        blocking(move || {
            let bytes = incoming.bytes();
            if incoming.finish()? != header.sha256 {
                return Err(Error::new(
                    Reason::ChecksumMismatch,
                    "sha256: is not that of the bytes that arrived: upload the file again",
                ));
            }
            let work = |tx: &Transaction<'_>| header.store(&node, tx, &caller, incoming, bytes);
            node.store.write_blocking(work)
        })
        .await
    }

    async fn download(
        &self,
        request: DownloadAssetRequest,
    ) -> Result<(Asset, fetch::Chunks), Error> {
        let DownloadAssetRequest { partner, id } = request;
        if partner.is_empty() {
            let asset = self
                .node
                .store
                .read(move |connection| rows::find(connection, &id))
                .await?;
            let chunks = fetch::read(&self.node, files::own(&asset.sha256), asset.bytes).await?;
            return Ok((asset, chunks));
        }
        let (partnership, shared) = self
            .node
            .store
            .read(move |connection| {
                let partnership = partnership::connected(connection, &partner)?;
                let shared = rows::find_from_partner(connection, &partnership.id, &id)?
                    .ok_or_else(|| Error::not_found("asset", &id))?;
                Ok((partnership, shared))
            })
            .await?;
        let chunks = fetch::from_partner(&self.node, &partnership, &shared).await?;
        Ok((shared.asset, chunks))
    }

    /// Deletes files that nothing refers to any more, now; the follower would in a while.
    async fn sweep(&self) {
        let node = Arc::clone(&self.node);
        if let Err(error) = blocking(move || files::sweep(&node)).await {
            tracing::warn!(%error, "files that are no longer needed could not be removed");
        }
    }
}

/// What an upload begins with, checked.
struct Header {
    kind: v1::AssetKind,
    title: String,
    file_name: String,
    media_type: String,
    sha256: [u8; 32],
    request_id: String,
}

impl Header {
    fn parse(header: v1::AssetHeader) -> Result<Self, Error> {
        let kind = wanted_kind("header.kind", header.kind)?
            .ok_or_else(|| Error::invalid("header.kind", "must be set"))?;
        let file_name = line("header.file_name", &header.file_name, MAX_NAME_CHARS)?;
        if !is_plain_name(&file_name) {
            return Err(Error::invalid(
                "header.file_name",
                "must be a file's name without folders",
            ));
        }
        let mut title = line("header.title", &header.title, MAX_NAME_CHARS)?;
        if title.is_empty() {
            title.clone_from(&file_name);
        }
        let mut media_type = line(
            "header.media_type",
            &header.media_type,
            MAX_MEDIA_TYPE_CHARS,
        )?;
        if media_type.is_empty() {
            "application/octet-stream".clone_into(&mut media_type);
        }
        let mut sha256 = [0; 32];
        hex::decode_to_slice(&header.sha256, &mut sha256).map_err(|_| {
            Error::invalid(
                "header.sha256",
                "must be the file's SHA-256 in 64 hexadecimal digits",
            )
        })?;
        Ok(Self {
            kind,
            title,
            file_name,
            media_type,
            sha256,
            request_id: header.request_id,
        })
    }

    fn store(
        &self,
        node: &Node,
        tx: &Transaction<'_>,
        caller: &Caller,
        incoming: Incoming,
        bytes: u64,
    ) -> Result<Asset, Error> {
        let hash = hex::encode(self.sha256);
        let content = [
            self.kind.as_str_name(),
            &self.title,
            &self.file_name,
            &self.media_type,
            &hash,
        ];
        if let Some(id) = repeated(tx, caller, UPLOAD, &self.request_id, &content)? {
            return rows::find(tx, &id);
        }
        let (count, total) = rows::volume(tx)?;
        if count >= MAX_OWN || total + bytes > MAX_OWN_BYTES {
            return Err(Error::new(
                Reason::QuotaExhausted,
                format!(
                    "a node keeps at most {MAX_OWN} files of {MAX_OWN_BYTES} bytes in all: delete some"
                ),
            ));
        }
        let now = node.now();
        let asset = Asset {
            id: new_id("ast")?,
            kind: self.kind,
            title: self.title.clone(),
            file_name: self.file_name.clone(),
            media_type: self.media_type.clone(),
            bytes,
            sha256: self.sha256,
            created_at: now,
        };
        rows::insert(tx, &asset, &caller.user)?;
        audit::record(
            tx,
            now,
            &caller.token_id,
            "asset.uploaded",
            None,
            &[("asset", &asset.id)],
        )?;
        remember(
            tx,
            caller,
            UPLOAD,
            &self.request_id,
            &content,
            &asset.id,
            now,
        )?;
        incoming.settle(node, &files::own(&self.sha256))?;
        Ok(asset)
    }
}

fn share(
    node: &Node,
    tx: &Transaction<'_>,
    caller: &Caller,
    request: &ShareAssetRequest,
) -> Result<Shared, Error> {
    let partnership = partnership::connected(tx, &request.partner)?.id;
    let description = paragraph("description", &request.description)?;
    let asset = rows::find(tx, &request.id)?;
    let before = rows::share_of(tx, &partnership, &asset.id)?;
    let now = node.now();
    let (revision, shared_at, is_same) = match &before {
        Some((revision, true, known, since)) => (*revision, *since, *known == description),
        Some((revision, false, _, _)) => (*revision, now, false),
        None => (0, now, false),
    };
    let mut shared = Shared {
        asset,
        partnership,
        revision,
        description,
        shared_at,
    };
    if is_same {
        return Ok(shared);
    }
    shared.revision += 1;
    rows::put_share(tx, &shared, true)?;
    tell_shared(node, tx, &shared)?;
    note(
        node,
        tx,
        caller,
        Kind::AssetShared,
        "asset.shared",
        &shared.partnership,
        &shared.asset.id,
    )?;
    Ok(shared)
}

/// Takes a file back, if the partner has it.
fn unshare(
    node: &Node,
    tx: &Transaction<'_>,
    caller: &Caller,
    partnership: &str,
    asset: &Asset,
) -> Result<(), Error> {
    let Some((revision, true, _, _)) = rows::share_of(tx, partnership, &asset.id)? else {
        return Ok(());
    };
    let shared = Shared {
        asset: asset.clone(),
        partnership: partnership.to_owned(),
        revision: revision + 1,
        description: String::new(),
        shared_at: node.now(),
    };
    rows::put_share(tx, &shared, false)?;
    tell_unshared(node, tx, partnership, &asset.id, shared.revision)?;
    note(
        node,
        tx,
        caller,
        Kind::AssetUnshared,
        "asset.unshared",
        partnership,
        &asset.id,
    )
}

fn note(
    node: &Node,
    tx: &Transaction<'_>,
    caller: &Caller,
    kind: Kind,
    action: &str,
    partnership: &str,
    id: &str,
) -> Result<(), Error> {
    changes::record(tx, node.now(), kind, Some(partnership), id, &[])?;
    audit::record(
        tx,
        node.now(),
        &caller.token_id,
        action,
        Some(partnership),
        &[("asset", id)],
    )
}

fn wanted_kind(field: &str, kind: i32) -> Result<Option<v1::AssetKind>, Error> {
    match v1::AssetKind::try_from(kind) {
        Ok(v1::AssetKind::Unspecified) => Ok(None),
        Ok(kind) => Ok(Some(kind)),
        Err(_) => Err(Error::invalid(field, "is not a kind of asset")),
    }
}

fn broken(status: &Status) -> Error {
    Error::new(
        Reason::Cancelled,
        format!("the upload broke off: {}", status.message()),
    )
}

/// Reads up to so many shared files of a partnership and kind after a position, and how many there are.
type ListShared =
    fn(&Connection, &str, i32, (i64, &str), usize) -> Result<(Vec<Shared>, u64), Error>;

/// Reads one page of shared files.
fn shared_page(
    connection: &Connection,
    listing: &str,
    request: &ListAssetsFromPartnerRequest,
    list: ListShared,
) -> Result<ListAssetsFromPartnerResponse, Error> {
    wanted_kind("kind", request.kind)?;
    let partnership = partnership::connected(connection, &request.partner)?.id;
    let page = PageRequest::read(
        listing,
        &[&partnership, &request.kind.to_string()],
        request.page_size,
        &request.page_token,
    )?;
    let (before_us, after_id) = page.after_newest()?;
    let position = (before_us, after_id.as_str());
    let (mut found, total_size) = list(
        connection,
        &partnership,
        request.kind,
        position,
        page.size + 1,
    )?;
    let next_page_token = page.cut(&mut found, |shared| {
        newest_first(shared.shared_at.as_microsecond(), &shared.asset.id)
    });
    Ok(ListAssetsFromPartnerResponse {
        assets: found.iter().map(Shared::to_proto).collect(),
        next_page_token,
        total_size,
    })
}

#[tonic::async_trait]
impl AssetService for Service {
    async fn upload_asset(
        &self,
        request: Request<Streaming<UploadAssetRequest>>,
    ) -> Result<Response<UploadAssetResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::MANAGERS)?;
        let asset = self.upload(caller, request.into_inner()).await?;
        Ok(Response::new(UploadAssetResponse {
            asset: Some(asset.to_proto()),
        }))
    }

    async fn delete_asset(
        &self,
        request: Request<DeleteAssetRequest>,
    ) -> Result<Response<DeleteAssetResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::MANAGERS)?;
        let id = request.into_inner().id;
        let node = Arc::clone(&self.node);
        self.node
            .store
            .write(move |tx| {
                let asset = rows::find(tx, &id)?;
                for partnership in rows::shared_with(tx, &id)? {
                    unshare(&node, tx, &caller, &partnership, &asset)?;
                }
                rows::delete(tx, &asset)?;
                audit::record(
                    tx,
                    node.now(),
                    &caller.token_id,
                    "asset.deleted",
                    None,
                    &[("asset", &id)],
                )
            })
            .await?;
        self.sweep().await;
        Ok(Response::new(DeleteAssetResponse {}))
    }

    async fn share_asset(
        &self,
        request: Request<ShareAssetRequest>,
    ) -> Result<Response<ShareAssetResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::MANAGERS)?;
        let request = request.into_inner();
        let node = Arc::clone(&self.node);
        let shared = self
            .node
            .store
            .write(move |tx| share(&node, tx, &caller, &request))
            .await?;
        Ok(Response::new(ShareAssetResponse {
            shared: Some(shared.to_proto()),
        }))
    }

    async fn unshare_asset(
        &self,
        request: Request<UnshareAssetRequest>,
    ) -> Result<Response<UnshareAssetResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::MANAGERS)?;
        let request = request.into_inner();
        let node = Arc::clone(&self.node);
        self.node
            .store
            .write(move |tx| {
                let partnership = partnership::connected(tx, &request.partner)?.id;
                let asset = rows::find(tx, &request.id)?;
                unshare(&node, tx, &caller, &partnership, &asset)
            })
            .await?;
        Ok(Response::new(UnshareAssetResponse {}))
    }

    async fn list_assets(
        &self,
        request: Request<ListAssetsRequest>,
    ) -> Result<Response<ListAssetsResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let request = request.into_inner();
        wanted_kind("kind", request.kind)?;
        let page = PageRequest::read(
            "assets, newest first",
            &[&request.kind.to_string()],
            request.page_size,
            &request.page_token,
        )?;
        let response = self
            .node
            .store
            .read(move |connection| {
                let (before_us, after_id) = page.after_newest()?;
                let position = (before_us, after_id.as_str());
                let (mut found, total_size) =
                    rows::list(connection, request.kind, position, page.size + 1)?;
                let next_page_token = page.cut(&mut found, |asset| {
                    newest_first(asset.created_at.as_microsecond(), &asset.id)
                });
                let mut assets = Vec::with_capacity(found.len());
                for asset in found {
                    let mut message = asset.to_proto();
                    message.shared_with = rows::shared_with(connection, &asset.id)?;
                    assets.push(message);
                }
                Ok(ListAssetsResponse {
                    assets,
                    next_page_token,
                    total_size,
                })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn list_assets_from_partner(
        &self,
        request: Request<ListAssetsFromPartnerRequest>,
    ) -> Result<Response<ListAssetsFromPartnerResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let request = request.into_inner();
        let response = self
            .node
            .store
            .read(move |connection| {
                let listing = "assets from the partner, newest first";
                shared_page(connection, listing, &request, rows::list_from_partner)
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn list_assets_shared_with_partner(
        &self,
        request: Request<ListAssetsSharedWithPartnerRequest>,
    ) -> Result<Response<ListAssetsSharedWithPartnerResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let ListAssetsSharedWithPartnerRequest {
            partner,
            page_size,
            page_token,
            kind,
        } = request.into_inner();
        let request = ListAssetsFromPartnerRequest {
            partner,
            page_size,
            page_token,
            kind,
        };
        let ListAssetsFromPartnerResponse {
            assets,
            next_page_token,
            total_size,
        } = self
            .node
            .store
            .read(move |connection| {
                let listing = "assets shared with the partner, newest first";
                shared_page(connection, listing, &request, rows::list_shared)
            })
            .await?;
        Ok(Response::new(ListAssetsSharedWithPartnerResponse {
            assets,
            next_page_token,
            total_size,
        }))
    }

    type DownloadAssetStream =
        Pin<Box<dyn Stream<Item = Result<DownloadAssetResponse, Status>> + Send>>;

    async fn download_asset(
        &self,
        request: Request<DownloadAssetRequest>,
    ) -> Result<Response<Self::DownloadAssetStream>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let (asset, chunks) = self.download(request.into_inner()).await?;
        let part = |part| DownloadAssetResponse { part: Some(part) };
        let first = part(download_asset_response::Part::Asset(asset.to_proto()));
        let rest = chunks.map(move |chunk| match chunk {
            Ok(chunk) => Ok(part(download_asset_response::Part::Chunk(chunk))),
            Err(error) => Err(error.into()),
        });
        Ok(Response::new(Box::pin(
            futures::stream::once(async { Ok(first) }).chain(rest),
        )))
    }
}
