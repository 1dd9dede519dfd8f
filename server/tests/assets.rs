//! Files between two nodes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "assets/support.rs"]
mod support;

use overlap_proto::v1::{
    self, AssetHeader, AssetKind, Contact, DeleteAssetRequest, GetPartnerInfoRequest,
    ListAssetsFromPartnerRequest, ListAssetsRequest, ListAssetsSharedWithPartnerRequest,
    OrganizationInfo, RevokePartnershipRequest, Role, SetOwnInfoRequest, SharedAsset,
    asset_service_client::AssetServiceClient,
};
use serde_json::json;
use support::{
    attribution_support::{
        assets, audit, count, delivered, infos,
        node_support::{TestNode, eventually, reason},
        partners, registry, say, token,
    },
    content, download, files, header, share, unshare, upload,
};
use tonic::Code;

async fn from_partner(node: &TestNode) -> Vec<SharedAsset> {
    let request = ListAssetsFromPartnerRequest {
        partner: "Acme".to_owned(),
        ..Default::default()
    };
    let response = assets(node)
        .await
        .list_assets_from_partner(request)
        .await
        .unwrap();
    response.into_inner().assets
}

async fn shared_with_partner(node: &TestNode, kind: AssetKind) -> Vec<SharedAsset> {
    let request = ListAssetsSharedWithPartnerRequest {
        partner: "Globex".to_owned(),
        kind: kind.into(),
        ..Default::default()
    };
    let response = assets(node)
        .await
        .list_assets_shared_with_partner(request)
        .await
        .unwrap();
    response.into_inner().assets
}

#[tokio::test]
async fn p24_p26_a_shared_file_reaches_the_partner_and_is_taken_back() {
    let (a, mut b) = partners(false, false).await;
    let bytes = content(1_000_003);
    let mut client = assets(&a).await;
    let sheet = upload(
        &mut client,
        header(AssetKind::ProductSheet, "sheet.pdf", &bytes),
        &bytes,
    )
    .await
    .unwrap();
    assert_eq!(sheet.title, "sheet.pdf");
    assert_eq!(sheet.size_bytes, 1_000_003);
    assert_eq!(download(&a, "", &sheet.id).await.unwrap().1, bytes);
    // The partner is away: it hears of it later.
    b.stop().await;
    let shared = share(&mut client, &sheet.id, "For your sales team")
        .await
        .unwrap();
    assert_eq!(shared.description, "For your sales team");
    b.resume().await;
    eventually("the file is announced", || async {
        from_partner(&b).await.len() == 1
    })
    .await;
    let there = from_partner(&b).await.remove(0);
    assert_eq!(there.description, "For your sales team");
    let announced = there.asset.unwrap();
    assert_eq!(announced.sha256, sheet.sha256);
    assert_eq!(announced.kind(), AssetKind::ProductSheet);
    assert_eq!(announced.file_name, "sheet.pdf");
    assert_eq!(
        files(&b, "from"),
        0,
        "nothing is fetched before somebody wants it"
    );
    let (asset, fetched) = download(&b, "Acme", &sheet.id).await.unwrap();
    assert_eq!((asset.size_bytes, fetched == bytes), (1_000_003, true));
    assert_eq!(files(&b, "from"), 1);
    // Lists.
    assert_eq!(
        shared_with_partner(&a, AssetKind::Unspecified).await.len(),
        1
    );
    assert_eq!(shared_with_partner(&a, AssetKind::CaseStudy).await.len(), 0);
    let mine = client
        .list_assets(ListAssetsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        mine.assets[0].shared_with,
        std::slice::from_ref(&shared.partner)
    );
    // Taken back.
    unshare(&mut client, &sheet.id).await;
    unshare(&mut client, &sheet.id).await;
    eventually("the file is gone", || async {
        from_partner(&b).await.is_empty()
    })
    .await;
    eventually("the copy is gone", || async { files(&b, "from") == 0 }).await;
    let gone = download(&b, "Acme", &sheet.id).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert_eq!(files(&a, "own"), 1, "mine stays");
    let (log_a, log_b) = (audit(&a).await, audit(&b).await);
    assert_eq!(
        (
            log_a["asset.uploaded"],
            log_a["asset.shared"],
            log_a["asset.unshared"]
        ),
        (1, 1, 1)
    );
    assert_eq!(
        (
            log_a["asset.fetched"],
            log_b["asset.received"],
            log_b["asset.unshared"]
        ),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn p25_sharing_again_changes_the_description_at_most() {
    let (a, b) = partners(false, false).await;
    let mut client = assets(&a).await;
    let bytes = content(10);
    let guide = header(AssetKind::CoMarketingGuideline, "guide.md", &bytes);
    let guide = upload(&mut client, guide, &bytes).await.unwrap();
    let first = share(&mut client, &guide.id, "").await.unwrap();
    a.clock.advance(jiff::SignedDuration::from_secs(60));
    let second = share(&mut client, &guide.id, "").await.unwrap();
    assert_eq!(first, second);
    let third = share(&mut client, &guide.id, "New").await.unwrap();
    assert_eq!(
        (third.description.as_str(), third.shared_at),
        ("New", first.shared_at)
    );
    delivered(&a).await;
    assert_eq!(from_partner(&b).await.len(), 1);
    assert_eq!(from_partner(&b).await[0].description, "New");
    assert_eq!(
        audit(&b).await["asset.received"],
        2,
        "the second call told nothing"
    );
    assert_eq!(audit(&a).await["asset.shared"], 2);
}

#[tokio::test]
async fn p26_size_and_hash_are_verified() {
    let (a, _b) = partners(false, false).await;
    let mut client = assets(&a).await;
    let bytes = content(1_000);
    let other = header(AssetKind::Other, "x.bin", &content(999));
    let mismatch = upload(&mut client, other, &bytes).await.unwrap_err();
    assert_eq!(
        (mismatch.code(), reason(&mismatch).as_str()),
        (Code::InvalidArgument, "CHECKSUM_MISMATCH")
    );
    let large = vec![0; (64 << 20) + 1];
    let refused = upload(
        &mut client,
        header(AssetKind::Other, "x.bin", &large),
        &large,
    )
    .await
    .unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "ASSET_TOO_LARGE")
    );
    for name in ["", "..", "a/b", "a\\b"] {
        let refused = upload(&mut client, header(AssetKind::Other, name, &bytes), &bytes)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
    }
    let unkind = upload(
        &mut client,
        header(AssetKind::Unspecified, "x", &bytes),
        &bytes,
    )
    .await
    .unwrap_err();
    assert_eq!(unkind.code(), Code::InvalidArgument);
    assert_eq!(
        (files(&a, "incoming"), files(&a, "own")),
        (0, 0),
        "nothing is left behind"
    );
    assert_eq!(count(&a, "SELECT count(*) FROM assets").await, 0);
    // The same upload twice makes one asset; the same bytes twice are one file.
    let header = AssetHeader {
        request_id: "u-1".to_owned(),
        ..header(AssetKind::CaseStudy, "case.pdf", &bytes)
    };
    let first = upload(&mut client, header.clone(), &bytes).await.unwrap();
    let again = upload(&mut client, header.clone(), &bytes).await.unwrap();
    assert_eq!(first.id, again.id);
    let second = AssetHeader {
        request_id: String::new(),
        ..header
    };
    let second = upload(&mut client, second, &bytes).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(files(&a, "own"), 1);
    client
        .delete_asset(DeleteAssetRequest { id: first.id })
        .await
        .unwrap();
    assert_eq!(download(&a, "", &second.id).await.unwrap().1, bytes);
    client
        .delete_asset(DeleteAssetRequest { id: second.id })
        .await
        .unwrap();
    assert_eq!(files(&a, "own"), 0);
}

#[tokio::test]
async fn p26_a_partner_that_announces_one_file_and_sends_another_is_refused() {
    let (a, b) = partners(false, false).await;
    let mut client = assets(&a).await;
    let bytes = content(5_000);
    let asset = upload(
        &mut client,
        header(AssetKind::Other, "x.bin", &bytes),
        &bytes,
    )
    .await
    .unwrap();
    share(&mut client, &asset.id, "").await.unwrap();
    delivered(&a).await;
    let announce = |revision: u64, bytes: u64, sha256: &str, file_name: &str| {
        json!({
            "id": asset.id, "revision": revision, "kind": "ASSET_KIND_OTHER", "title": "x", "file_name": file_name,
            "media_type": "", "description": "", "bytes": bytes, "sha256": sha256, "created_us": 1, "shared_us": 1,
        })
    };
    let wrong = "00".repeat(32);
    for (revision, size) in [(10, 5_000), (11, 4_999), (12, 5_001)] {
        let sha256 = if size == 5_000 { &wrong } else { &asset.sha256 };
        say(
            &a,
            "asset.shared",
            announce(revision, size, sha256, "x.bin"),
        )
        .await;
        delivered(&a).await;
        let refused = download(&b, "Acme", &asset.id).await.unwrap_err();
        assert_eq!(reason(&refused), "PEER_FAULT", "{size}");
    }
    assert_eq!((files(&b, "incoming"), files(&b, "from")), (0, 0));
    // Names with folders, too large a file, an older revision.
    say(
        &a,
        "asset.shared",
        announce(20, 5_000, &asset.sha256, "../x"),
    )
    .await;
    say(
        &a,
        "asset.shared",
        announce(21, (64 << 20) + 1, &asset.sha256, "x.bin"),
    )
    .await;
    say(
        &a,
        "asset.shared",
        announce(3, 5_000, &asset.sha256, "old.bin"),
    )
    .await;
    say(&a, "asset.unshared", json!({"id": asset.id, "revision": 4})).await;
    delivered(&a).await;
    assert_eq!(audit(&a).await["notice.refused"], 2);
    let there = from_partner(&b).await.remove(0).asset.unwrap();
    assert_eq!(
        (there.file_name.as_str(), there.size_bytes),
        ("x.bin", 5_001)
    );
    // One that is not shared with me is not handed out.
    unshare(&mut client, &asset.id).await;
    let refused = download(&b, "Acme", &asset.id).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn p24_copies_are_served_while_the_partner_is_away_and_go_with_the_partnership() {
    let (mut a, b) = partners(false, false).await;
    let mut client = assets(&a).await;
    let bytes = content(300_000);
    let one = upload(&mut client, header(AssetKind::Other, "1", &bytes), &bytes)
        .await
        .unwrap();
    let two = upload(
        &mut client,
        header(AssetKind::Other, "2", &content(7)),
        &content(7),
    )
    .await
    .unwrap();
    share(&mut client, &one.id, "").await.unwrap();
    share(&mut client, &two.id, "").await.unwrap();
    delivered(&a).await;
    download(&b, "Acme", &one.id).await.unwrap();
    a.stop().await;
    assert_eq!(download(&b, "Acme", &one.id).await.unwrap().1, bytes);
    let away = download(&b, "Acme", &two.id).await.unwrap_err();
    assert_eq!(
        (away.code(), reason(&away).as_str()),
        (Code::Unavailable, "PARTNER_UNREACHABLE")
    );
    let revoke = RevokePartnershipRequest {
        partner: "Acme".to_owned(),
    };
    b.partners().await.revoke_partnership(revoke).await.unwrap();
    eventually("copies are gone", || async { files(&b, "from") == 0 }).await;
    assert_eq!(count(&b, "SELECT count(*) FROM partner_assets").await, 0);
    a.resume().await;
    eventually("both sides have forgotten", || async {
        count(&a, "SELECT count(*) FROM asset_shares").await == 0
    })
    .await;
}

#[tokio::test]
async fn p26_roles_readers_read_and_managers_share() {
    let (a, _b) = partners(false, false).await;
    let bytes = content(3);
    let asset = upload(
        &mut assets(&a).await,
        header(AssetKind::Other, "x", &bytes),
        &bytes,
    )
    .await
    .unwrap();
    let client = |secret: String| {
        let node = &a;
        async move { AssetServiceClient::new(node.api_as(&secret).await) }
    };
    let mut member = client(token(&a, "mia", Role::Member, "").await).await;
    assert_eq!(
        share(&mut member, &asset.id, "").await.unwrap_err().code(),
        Code::PermissionDenied
    );
    member
        .list_assets(ListAssetsRequest::default())
        .await
        .unwrap();
    let mut manager = client(token(&a, "max", Role::PartnerManager, "").await).await;
    share(&mut manager, &asset.id, "").await.unwrap();
    assert_eq!(
        share(&mut manager, "ast_0", "").await.unwrap_err().code(),
        Code::NotFound
    );
    let mut guest = client(token(&a, "guest", Role::Partner, "Globex").await).await;
    let refused = guest
        .list_assets(ListAssetsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn p03_partner_information_with_contacts_is_exchanged() {
    let a = TestNode::start_with("Acme", registry).await;
    let b = TestNode::start_with("Globex", registry).await;
    let info = OrganizationInfo {
        name: "Acme Corporation".to_owned(),
        website_uri: "https://acme.example".to_owned(),
        contacts: vec![Contact {
            name: "Ada".to_owned(),
            role: "Partner manager".to_owned(),
            email: "ada@acme.example".to_owned(),
            phone: String::new(),
        }],
        ..Default::default()
    };
    let set = |info: &OrganizationInfo| SetOwnInfoRequest {
        info: Some(info.clone()),
    };
    // Told before there is anybody to tell it to.
    infos(&a).await.set_own_info(set(&info)).await.unwrap();
    b.accept(&a.invite().await).await.unwrap();
    let known = || async {
        let request = GetPartnerInfoRequest {
            partner: "Acme".to_owned(),
        };
        infos(&b)
            .await
            .get_partner_info(request)
            .await
            .unwrap()
            .into_inner()
    };
    eventually("the information arrives", || async {
        known().await.info.unwrap() == info
    })
    .await;
    assert!(known().await.updated_at.is_some());
    let mut newer = info.clone();
    newer.contacts[0].name = "Grace".to_owned();
    infos(&a).await.set_own_info(set(&newer)).await.unwrap();
    eventually("the change arrives", || async {
        known().await.info.unwrap() == newer
    })
    .await;
    // The other side has told nothing: its name is known from pairing.
    let request = GetPartnerInfoRequest {
        partner: "Globex".to_owned(),
    };
    let other = infos(&a)
        .await
        .get_partner_info(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (other.info.unwrap().name.as_str(), other.updated_at),
        ("Globex", None)
    );
    // An older revision and a link that is none.
    let older = json!({"revision": 1, "info": {"name": "Old", "description": "", "website_uri": "", "logo_uri": "", "industry": "", "regions": [], "contacts": []}});
    say(&a, "partner_info.updated", older).await;
    let hostile = json!({"revision": u64::MAX >> 2, "info": {"name": "X", "description": "", "website_uri": "javascript:alert(1)", "logo_uri": "", "industry": "", "regions": [], "contacts": []}});
    say(&a, "partner_info.updated", hostile).await;
    delivered(&a).await;
    assert_eq!(known().await.info.unwrap(), newer);
    let member = token(&a, "mia", Role::Member, "").await;
    let mut member =
        v1::partner_info_service_client::PartnerInfoServiceClient::new(a.api_as(&member).await);
    let refused = member.set_own_info(set(&info)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
