//! Two companies that do everything with each other.

use super::*;

/// Raw forms of identifiers and what normalisation makes of them.
pub(super) fn identifiers(company: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut push = |text: String| all.push((text.clone(), text.into_bytes()));
    for number in 0..40 {
        push(format!("  Person{number}.Leaky@Shared-Mail.example"));
        push(format!("person{number}.leaky@shared-mail.example"));
        push(format!("Own{number}.{company}@Only-{company}.example"));
        push(format!("own{number}.{company}@only-{company}.example"));
        push(format!(
            "044 668 {:02} {:02}",
            number / 10 + 10,
            number + 20
        ));
        push(format!("+4144668{:02}{:02}", number / 10 + 10, number + 20));
        push(format!("LEAK-EXT-{number:04}"));
        push(format!("https://www.Leaky-Company{number}.com/about"));
        push(format!("leaky-company{number}.com"));
        push(format!("Secret Name {number} {company}"));
        push(format!("row-{company}-{number:03}"));
    }
    all
}

fn csv(company: &str) -> String {
    let mut file = String::from("id,stage,name,email,phone,domain,external_id\n");
    for number in 0..40 {
        let stage = ["Customer", "Lead"][number % 2];
        file.push_str(&format!(
            "row-{company}-{number:03},{stage},Secret Name {number} {company},\
             \"  Person{number}.Leaky@Shared-Mail.example;Own{number}.{company}@Only-{company}.example\",\
             044 668 {:02} {:02},https://www.Leaky-Company{number}.com/about,LEAK-EXT-{number:04}\n",
            number / 10 + 10,
            number + 20,
        ));
    }
    file
}

pub(super) fn import(node: &TestNode, company: &str) {
    let options = ImportOptions {
        default_region: overlap_server::customers::normalize::Region::parse("CH", "region")
            .unwrap(),
        replace_all: false,
    };
    import_reader(
        &node.node().store,
        &*node.node().clock,
        Source {
            file: "customers.csv",
            format: Format::Csv,
            reader: &mut csv(company).as_bytes(),
            total_bytes: None,
        },
        &options,
        &mut |_| (),
    )
    .unwrap();
}

fn policy() -> SharingPolicy {
    SharingPolicy {
        stages: [
            ("Customer".to_owned(), Tier::List.into()),
            ("Lead".to_owned(), Tier::Count.into()),
        ]
        .into(),
        match_on: [
            KeyType::ExternalId,
            KeyType::Email,
            KeyType::Phone,
            KeyType::Domain,
        ]
        .map(Into::into)
        .to_vec(),
        count_by_count: true,
        min_count: 1,
        ..SharingPolicy::default()
    }
}

pub(super) async fn agree(a: &TestNode, b: &TestNode) {
    let set = |partner: &str| SetPolicyRequest {
        partner: partner.to_owned(),
        policy: Some(policy()),
    };
    a.sharing().await.set_policy(set("Globex")).await.unwrap();
    b.sharing().await.set_policy(set("Acme")).await.unwrap();
    eventually("sharing is active", || async {
        for (node, partner) in [(a, "Globex"), (b, "Acme")] {
            let request = ApproveProposalRequest {
                partner: partner.to_owned(),
            };
            // Whichever side has something to approve.
            let _ = node.sharing().await.approve_proposal(request).await;
        }
        let mut active = true;
        for (node, partner) in [(a, "Globex"), (b, "Acme")] {
            let id = node.partnership(partner).await.unwrap().id;
            active &= node
                .node()
                .store
                .read(move |c| overlap_server::sharing::policy::active_agreement(c, &id))
                .await
                .is_ok();
        }
        active
    })
    .await;
}

pub(super) async fn match_once(node: &TestNode, partner: &str) -> Run {
    let mut matches = MatchServiceClient::new(node.api().await);
    let request = StartRunRequest {
        partner: partner.to_owned(),
        ..StartRunRequest::default()
    };
    let id = matches
        .start_run(request)
        .await
        .unwrap()
        .into_inner()
        .run
        .unwrap()
        .id;
    for _ in 0..1200 {
        let request = GetRunRequest { run: id.clone() };
        let run = matches
            .get_run(request)
            .await
            .unwrap()
            .into_inner()
            .run
            .unwrap();
        if run.ended_at.is_some() {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the run does not end");
}

/// An attribution that is decided and a file that is fetched. Returns what was written.
pub(super) async fn collaborate(a: &TestNode, b: &TestNode) -> Vec<(String, Vec<u8>)> {
    let text = |what: &str| format!("what people write: {what}");
    let mut attributions = AttributionServiceClient::new(a.api().await);
    let request = RequestAttributionRequest {
        partner: "Globex".to_owned(),
        customer: "row-acme-000".to_owned(),
        details: text("details"),
        ..RequestAttributionRequest::default()
    };
    attributions.request_attribution(request).await.unwrap();
    let mut attributions = AttributionServiceClient::new(b.api().await);
    let list = || ListReceivedAttributionsRequest {
        partner: "Acme".to_owned(),
        ..ListReceivedAttributionsRequest::default()
    };
    let mut received = Vec::new();
    for _ in 0..400 {
        received = attributions
            .list_received_attributions(list())
            .await
            .unwrap()
            .into_inner()
            .attributions;
        if !received.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    // It is told by its own name.
    assert_eq!(received[0].customer, "row-globex-000");
    let approval = ApproveAttributionRequest {
        partner: "Acme".to_owned(),
        id: received[0].id.clone(),
        comment: text("comment"),
        ..ApproveAttributionRequest::default()
    };
    attributions.approve_attribution(approval).await.unwrap();

    let content = text("content");
    let part = |part| UploadAssetRequest { part: Some(part) };
    let header = AssetHeader {
        kind: AssetKind::CaseStudy.into(),
        title: text("title"),
        file_name: "sheet.txt".to_owned(),
        sha256: hex::encode(Sha256::digest(&content)),
        ..AssetHeader::default()
    };
    let parts = [
        part(upload_asset_request::Part::Header(header)),
        part(upload_asset_request::Part::Chunk(
            content.clone().into_bytes(),
        )),
    ];
    let mut assets = AssetServiceClient::new(a.api().await);
    let uploaded = assets
        .upload_asset(futures::stream::iter(parts))
        .await
        .unwrap()
        .into_inner();
    let id = uploaded.asset.unwrap().id;
    let share = ShareAssetRequest {
        partner: "Globex".to_owned(),
        id: id.clone(),
        description: text("description"),
    };
    assets.share_asset(share).await.unwrap();
    let mut assets = AssetServiceClient::new(b.api().await);
    let mut fetched = Vec::new();
    for _ in 0..400 {
        let request = DownloadAssetRequest {
            partner: "Acme".to_owned(),
            id: id.clone(),
        };
        // The news of it takes a moment.
        if let Ok(parts) = assets.download_asset(request).await {
            let parts: Vec<_> = parts.into_inner().try_collect().await.unwrap();
            fetched = parts
                .into_iter()
                .filter_map(|part| match part.part {
                    Some(download_asset_response::Part::Chunk(chunk)) => Some(chunk),
                    _ => None,
                })
                .flatten()
                .collect();
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(fetched, content.as_bytes());
    ["details", "comment", "title", "description", "content"]
        .map(|what| (what.to_owned(), text(what).into_bytes()))
        .to_vec()
}
