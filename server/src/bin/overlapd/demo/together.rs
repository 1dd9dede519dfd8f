//! What the two companies do with a shared customer: credit asked for and given, a file handed over.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use overlap_client::{
    Asset, AssetKind, Attribution, AttributionDirection, AttributionFilter, AttributionState,
    Decision, NewAsset, NewAttribution, SharedCustomer, SharingPolicy, Tier, sha256_of_file,
};

use super::{Company, note};

/// How long a word may take from one node to the other.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(30);

/// What A hands to B.
const GUIDE_NAME: &str = "integration-guide.txt";
const GUIDE: &str = "Integration guide\n\n\
    1. Create an API key under Settings, Integrations.\n\
    2. Give it to the connector, with the address of your workspace.\n\
    3. Invoices appear beside the account within five minutes.\n";

/// A request for attribution as both nodes have it in the end.
pub(super) struct Credit {
    pub(super) customer_name: String,
    pub(super) sent: Attribution,
    pub(super) received: Attribution,
}

/// A file that went from one node to the other.
pub(super) struct HandedOver {
    pub(super) asset: Asset,
    pub(super) saved_to: PathBuf,
}

/// `a` asks for credit for the first customer that it may name; `b` receives the request and approves it. None if there is
/// no such customer.
pub(super) async fn credit(
    a: &Company,
    b: &Company,
    policy: Option<&SharingPolicy>,
    shared: &[SharedCustomer],
) -> anyhow::Result<Option<Credit>> {
    let listed = |customer: &&SharedCustomer| {
        policy.is_some_and(|policy| policy.stages.get(&customer.mine) == Some(&Tier::List))
    };
    let Some(customer) = shared.iter().find(listed) else {
        note("no shared customer may be named: no attribution is asked for");
        return Ok(None);
    };
    let (of_a, of_b) = (a.side.organization(), b.side.organization());
    let new = NewAttribution {
        customer: customer.id.clone(),
        details: format!("{of_a} introduced this customer to {of_b} at a joint workshop."),
        request_id: None,
    };
    let asked = a.client.request_attribution(of_b, new).await?;
    let pending = AttributionFilter {
        state: Some(AttributionState::Pending),
        customer: None,
    };
    eventually("the request for attribution", async || {
        let received = b
            .client
            .attributions(of_a, AttributionDirection::Received, &pending);
        let received: Vec<Attribution> = received.try_collect().await?;
        Ok(received.into_iter().find(|request| request.id == asked.id))
    })
    .await?;
    let decision = Decision {
        comment: Some("Confirmed: they came to us after the workshop.".to_owned()),
        request_id: None,
    };
    let received = b
        .client
        .approve_attribution(of_a, &asked.id, decision)
        .await?;
    let sent = eventually("the decision about the attribution", async || {
        let sent = a.client.attribution(of_b, &asked.id).await?;
        Ok((sent.state == AttributionState::Approved).then_some(sent))
    })
    .await?;
    note(&format!(
        "attribution asked for by {of_a}, approved by {of_b}"
    ));
    Ok(Some(Credit {
        customer_name: customer.name.clone(),
        sent,
        received,
    }))
}

/// `a` shares a file; `b` fetches it, and its SHA-256 is checked.
pub(super) async fn hand_over(a: &Company, b: &Company) -> anyhow::Result<HandedOver> {
    let (of_a, of_b) = (a.side.organization(), b.side.organization());
    let source = a.files().join(GUIDE_NAME);
    write(&source, GUIDE.as_bytes()).await?;
    let new = NewAsset {
        kind: AssetKind::IntegrationDoc,
        title: Some("Integration guide".to_owned()),
        file_name: GUIDE_NAME.to_owned(),
        media_type: Some("text/plain".to_owned()),
        request_id: None,
    };
    let asset = a.client.upload_asset(&source, new, |_| ()).await?;
    a.client
        .share_asset(of_b, &asset.id, Some("For your onboarding team"))
        .await?;
    let announced = eventually("the shared file", async || {
        let files: Vec<_> = b
            .client
            .assets_from_partner(of_a, None)
            .try_collect()
            .await?;
        Ok(files.into_iter().find(|file| file.asset.id == asset.id))
    })
    .await?;
    let mut download = b
        .client
        .download_asset(Some(of_a), &announced.asset.id)
        .await?;
    let mut content = Vec::new();
    while let Some(chunk) = download.chunks.try_next().await? {
        content.extend_from_slice(&chunk);
    }
    let saved_to = b.files().join(GUIDE_NAME);
    write(&saved_to, &content).await?;
    // The stream was checked against what was announced; this checks what lies on disk against what was uploaded.
    let sha256 = sha256_of_file(&saved_to).await?;
    anyhow::ensure!(
        sha256 == asset.sha256,
        "{}: is not the file that was shared",
        saved_to.display()
    );
    note(&format!(
        "a file shared by {of_a}, fetched by {of_b}, SHA-256 checked"
    ));
    Ok(HandedOver {
        asset: download.asset,
        saved_to,
    })
}

async fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let written = async {
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        tokio::fs::write(path, content).await
    };
    written
        .await
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// Looks again until there is something.
async fn eventually<T>(
    what: &str,
    look: impl AsyncFn() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let seen = async {
        loop {
            if let Some(found) = look().await? {
                return anyhow::Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DELIVERY_DEADLINE, seen)
        .await
        .with_context(|| format!("{what} did not arrive in time"))?
}
