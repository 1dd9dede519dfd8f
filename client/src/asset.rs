//! Files that partners give each other.

use std::path::Path;

use futures::{
    FutureExt as _, future,
    stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _},
};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncReadExt as _};

use crate::{
    Client, Error, Page, PageRequest,
    convert::present,
    import::chunks,
    message::FromWire as _,
    paging::entries,
    v1::{self, download_asset_response::Part as DownloadPart, upload_asset_request::Part},
};

named_enum! {
    /// Asset kind.
    AssetKind of v1::AssetKind {
        /// Product sheet.
        ProductSheet = "PRODUCT_SHEET",
        /// Co marketing guideline.
        CoMarketingGuideline = "CO_MARKETING_GUIDELINE",
        /// Integration doc.
        IntegrationDoc = "INTEGRATION_DOC",
        /// Case study.
        CaseStudy = "CASE_STUDY",
        /// Other.
        Other = "OTHER",
    }
}

messages! {
    /// A file.
    Asset of v1::Asset {
        /// Given by the node that owns it.
        id: String,
        kind: AssetKind,
        /// What people read.
        title: String,
        /// A name to save it under, without folders.
        file_name: String,
        /// E.g. "application/pdf"; as stated by whoever uploaded it.
        media_type: String,
        size_bytes: u64,
        /// Hexadecimal.
        sha256: String,
        created_at: Option<Timestamp>,
        /// The partnerships it is shared with; only for my files.
        shared_with: Vec<String>,
    }

    /// A file in the hands of a partner: mine with the partner, or the partner's with me.
    SharedAsset of v1::SharedAsset {
        asset: Asset = "the asset",
        /// The partnership's id.
        partner: String,
        description: String,
        shared_at: Option<Timestamp>,
    }
}

/// What to say of a file of mine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewAsset {
    /// What it is.
    pub kind: AssetKind,
    /// What people read; the file name if unset.
    pub title: Option<String>,
    /// The name to save it under.
    pub file_name: String,
    /// E.g. "application/pdf".
    pub media_type: Option<String>,
    /// Repeating an upload with the same id returns the same asset.
    pub request_id: Option<String>,
}

/// A file on its way here.
#[non_exhaustive]
pub struct Download {
    /// What it is.
    pub asset: Asset,
    /// Its bytes. The stream ends with an error unless their number and SHA-256 are those of [`Download::asset`].
    pub chunks: BoxStream<'static, Result<Vec<u8>, Error>>,
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub async fn sha256_of_file(path: &Path) -> Result<String, Error> {
    let failed = |error| Error::file(path, error);
    let mut file = File::open(path).await.map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).await.map_err(failed)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

impl Client {
    /// Stores a file of mine; the node verifies its SHA-256. It is shared with nobody yet. `on_sent` learns how many bytes
    /// have left so far.
    ///
    /// # Errors
    /// What reading the file or the node reports, or the way there; then nothing was stored.
    pub async fn upload_asset(
        &self,
        path: &Path,
        new: NewAsset,
        on_sent: impl FnMut(u64) + Send + 'static,
    ) -> Result<Asset, Error> {
        let header = Part::Header(v1::AssetHeader {
            kind: new.kind.to_proto(),
            title: new.title.unwrap_or_default(),
            file_name: new.file_name,
            media_type: new.media_type.unwrap_or_default(),
            sha256: sha256_of_file(path).await?,
            request_id: new.request_id.unwrap_or_default(),
        });
        let file = File::open(path)
            .await
            .map_err(|error| Error::file(path, error))?;
        let parts = stream::once(future::ready(Ok(header)))
            .chain(chunks(path.to_owned(), file, on_sent).map_ok(Part::Chunk))
            .map_ok(|part| v1::UploadAssetRequest { part: Some(part) });
        let (request, cause) = self.upload(parts, v1::UploadAssetRequest { part: None });
        let mut api = self.asset_api();
        let answer = self
            .uploaded(cause, api.upload_asset(request).boxed())
            .await?;
        Asset::from_wire(present(answer.asset, "the asset")?)
    }

    /// Deletes a file of mine; partners it was shared with lose it.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn delete_asset(&self, id: &str) -> Result<(), Error> {
        ask!(
            self.asset_api()
                .delete_asset(v1::DeleteAssetRequest { id: id.to_owned() })
        )
        .await?;
        Ok(())
    }

    /// Lets a partner have a file of mine; sharing it again changes its description at most.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn share_asset(
        &self,
        partner: &str,
        id: &str,
        description: Option<&str>,
    ) -> Result<SharedAsset, Error> {
        let answer = ask!(self.asset_api().share_asset(v1::ShareAssetRequest {
            partner: partner.to_owned(),
            id: id.to_owned(),
            description: description.unwrap_or_default().to_owned(),
        }))
        .await?;
        SharedAsset::from_wire(present(answer.shared, "the shared asset")?)
    }

    /// Takes a file back; the partner's node deletes its copy.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn unshare_asset(&self, partner: &str, id: &str) -> Result<(), Error> {
        ask!(self.asset_api().unshare_asset(v1::UnshareAssetRequest {
            partner: partner.to_owned(),
            id: id.to_owned(),
        }))
        .await?;
        Ok(())
    }

    /// One page of my files, newest first.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_assets(
        &self,
        kind: Option<AssetKind>,
        page: PageRequest,
    ) -> Result<Page<Asset>, Error> {
        let answer = ask!(self.asset_api().list_assets(v1::ListAssetsRequest {
            page_size: page.size(),
            page_token: page.token,
            kind: kind.unwrap_or_default().to_proto(),
        }))
        .await?;
        Page::of(
            answer.assets,
            answer.next_page_token,
            Some(answer.total_size),
        )
    }

    /// Every file of mine, newest first.
    pub fn assets(
        &self,
        kind: Option<AssetKind>,
    ) -> impl Stream<Item = Result<Asset, Error>> + Send + '_ {
        entries(move |page| self.list_assets(kind, page))
    }

    /// One page of what the partner shares with me, newest first.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_assets_from_partner(
        &self,
        partner: &str,
        kind: Option<AssetKind>,
        page: PageRequest,
    ) -> Result<Page<SharedAsset>, Error> {
        let answer = ask!(self.asset_api().list_assets_from_partner(
            v1::ListAssetsFromPartnerRequest {
                partner: partner.to_owned(),
                page_size: page.size(),
                page_token: page.token,
                kind: kind.unwrap_or_default().to_proto(),
            }
        ))
        .await?;
        Page::of(
            answer.assets,
            answer.next_page_token,
            Some(answer.total_size),
        )
    }

    /// Everything the partner shares with me, newest first.
    pub fn assets_from_partner<'a>(
        &'a self,
        partner: &'a str,
        kind: Option<AssetKind>,
    ) -> impl Stream<Item = Result<SharedAsset, Error>> + Send + 'a {
        entries(move |page| self.list_assets_from_partner(partner, kind, page))
    }

    /// One page of what I share with the partner, newest first.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_assets_shared_with_partner(
        &self,
        partner: &str,
        kind: Option<AssetKind>,
        page: PageRequest,
    ) -> Result<Page<SharedAsset>, Error> {
        let answer = ask!(self.asset_api().list_assets_shared_with_partner(
            v1::ListAssetsSharedWithPartnerRequest {
                partner: partner.to_owned(),
                page_size: page.size(),
                page_token: page.token,
                kind: kind.unwrap_or_default().to_proto(),
            }
        ))
        .await?;
        Page::of(
            answer.assets,
            answer.next_page_token,
            Some(answer.total_size),
        )
    }

    /// Everything I share with the partner, newest first.
    pub fn assets_shared_with_partner<'a>(
        &'a self,
        partner: &'a str,
        kind: Option<AssetKind>,
    ) -> impl Stream<Item = Result<SharedAsset, Error>> + Send + 'a {
        entries(move |page| self.list_assets_shared_with_partner(partner, kind, page))
    }

    /// Fetches a file: the partner's, or one of mine where `partner` is unset.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn download_asset(&self, partner: Option<&str>, id: &str) -> Result<Download, Error> {
        let request = self.transfer_request(v1::DownloadAssetRequest {
            partner: partner.unwrap_or_default().to_owned(),
            id: id.to_owned(),
        });
        let mut api = self.asset_api();
        // The node fetches a partner's file before it answers.
        let mut parts = self
            .answers_within(self.transfer_timeout, api.download_asset(request).boxed())
            .await?;
        let first = parts.next().await?;
        let Some(DownloadPart::Asset(asset)) = first.and_then(|first| first.part) else {
            return Err(Error::Response {
                missing: "the description of the file",
            });
        };
        let asset = Asset::from_wire(asset)?;
        let state = (parts, Verified::new(&asset));
        let chunks = stream::try_unfold(state, |(mut parts, mut verified)| async move {
            match parts.next().await? {
                Some(v1::DownloadAssetResponse {
                    part: Some(DownloadPart::Chunk(chunk)),
                }) => {
                    verified.take(&chunk)?;
                    Ok(Some((chunk, (parts, verified))))
                }
                Some(_) => Err(Error::Response {
                    missing: "bytes where the file should go on",
                }),
                None => verified.end().map(|()| None),
            }
        });
        Ok(Download {
            asset,
            chunks: chunks.boxed(),
        })
    }
}

/// The bytes so far against what was announced.
struct Verified {
    left: u64,
    sha256: String,
    hash: Sha256,
}

impl Verified {
    fn new(asset: &Asset) -> Self {
        Self {
            left: asset.size_bytes,
            sha256: asset.sha256.to_ascii_lowercase(),
            hash: Sha256::new(),
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.left = self
            .left
            .checked_sub(chunk.len() as u64)
            .ok_or(Error::Response {
                missing: "an end of the file where it was announced",
            })?;
        self.hash.update(chunk);
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        if self.left > 0 {
            return Err(Error::Response {
                missing: "the end of the file",
            });
        }
        if hex::encode(self.hash.finalize()) != self.sha256 {
            return Err(Error::Response {
                missing: "the bytes that its SHA-256 promises",
            });
        }
        Ok(())
    }
}
