//! Files of a node, as its callers handle them.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "each test binary uses its part"
)]

#[path = "../attribution_support/mod.rs"]
pub mod attribution_support;

use attribution_support::{
    assets,
    node_support::{Authorized, TestNode},
};
use futures::StreamExt as _;
use overlap_proto::v1::{
    Asset, AssetHeader, AssetKind, DownloadAssetRequest, ShareAssetRequest, SharedAsset,
    UnshareAssetRequest, UploadAssetRequest, asset_service_client::AssetServiceClient,
    download_asset_response, upload_asset_request,
};
use sha2::{Digest as _, Sha256};
use tonic::Status;

pub type Client = AssetServiceClient<Authorized>;

pub fn header(kind: AssetKind, file_name: &str, content: &[u8]) -> AssetHeader {
    AssetHeader {
        kind: kind.into(),
        title: String::new(),
        file_name: file_name.to_owned(),
        media_type: "application/pdf".to_owned(),
        sha256: hex::encode(Sha256::digest(content)),
        request_id: String::new(),
    }
}

pub async fn upload(
    client: &mut Client,
    header: AssetHeader,
    content: &[u8],
) -> Result<Asset, Status> {
    let part = |part| UploadAssetRequest { part: Some(part) };
    let mut parts = vec![part(upload_asset_request::Part::Header(header))];
    for chunk in content.chunks(100_000) {
        parts.push(part(upload_asset_request::Part::Chunk(chunk.to_vec())));
    }
    let response = client.upload_asset(futures::stream::iter(parts)).await?;
    Ok(response.into_inner().asset.unwrap())
}

pub async fn share(
    client: &mut Client,
    id: &str,
    description: &str,
) -> Result<SharedAsset, Status> {
    let request = ShareAssetRequest {
        partner: "Globex".to_owned(),
        id: id.to_owned(),
        description: description.to_owned(),
    };
    Ok(client
        .share_asset(request)
        .await?
        .into_inner()
        .shared
        .unwrap())
}

pub async fn unshare(client: &mut Client, id: &str) {
    let request = UnshareAssetRequest {
        partner: "Globex".to_owned(),
        id: id.to_owned(),
    };
    client.unshare_asset(request).await.unwrap();
}

pub async fn download(
    node: &TestNode,
    partner: &str,
    id: &str,
) -> Result<(Asset, Vec<u8>), Status> {
    let request = DownloadAssetRequest {
        partner: partner.to_owned(),
        id: id.to_owned(),
    };
    let mut parts = assets(node)
        .await
        .download_asset(request)
        .await?
        .into_inner();
    let (mut asset, mut content) = (None, Vec::new());
    while let Some(part) = parts.next().await {
        match part?.part.unwrap() {
            download_asset_response::Part::Asset(first) => {
                assert!(asset.is_none() && content.is_empty());
                asset = Some(first);
            }
            download_asset_response::Part::Chunk(chunk) => content.extend(chunk),
        }
    }
    Ok((asset.unwrap(), content))
}

pub fn content(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|index| ((index * index) >> 7) as u8)
        .collect()
}

pub fn files(node: &TestNode, folder: &str) -> usize {
    fn below(path: &std::path::Path) -> usize {
        std::fs::read_dir(path).map_or(0, |entries| {
            entries
                .map(|entry| entry.unwrap().path())
                .map(|path| if path.is_dir() { below(&path) } else { 1 })
                .sum()
        })
    }
    below(&node.path().join("assets").join(folder))
}
