//! The API of runs and overlaps, on two nodes over real sockets.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node_support;
mod oracle;

use std::{
    fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::PathBuf, process::Command, sync::Arc,
    time::Duration,
};

use node_support::{Authorized, TestNode, eventually, pair, reason};
use oracle::{
    Side, Tier,
    world::{self, all, email, row},
};
use overlap_proto::v1::{
    self, ApproveProposalRequest, CancelRunRequest, EmptyReason, ExplainCustomerRequest, Fault,
    GetMatrixRequest, GetRunRequest, GetSharedCustomerRequest, GetSharingRequest, ListRunsRequest,
    ListSharedCustomersRequest, RevokeSharingRequest, Run, RunState, SetPolicyRequest,
    SetTargetsRequest, SharingPolicy, SharingState, StartRunRequest, WatchRunRequest,
    match_service_client::MatchServiceClient, overlap_service_client::OverlapServiceClient,
};
use overlap_server::{
    collaboration::{Results, SharedCustomers as _},
    error::{Error, Reason},
    overlap::own_tier_allows_naming,
};
use rusqlite::Connection;
use tokio::runtime::Handle;
use tonic::Code;

fn import(node: &TestNode, side: &Side) {
    world::import(&node.node().store, &node.clock, &world::csv(&side.rows));
}

fn policy(side: &Side) -> SharingPolicy {
    SharingPolicy {
        stages: side
            .tiers
            .iter()
            .map(|(stage, tier)| {
                let tier = match tier {
                    Tier::Hidden => v1::Tier::Hidden,
                    Tier::Count => v1::Tier::Count,
                    Tier::List => v1::Tier::List,
                };
                (stage.clone(), tier.into())
            })
            .collect(),
        shared_fields: vec!["name".to_owned()],
        label_field_bytes: 64,
        match_on: vec![v1::KeyType::Email.into(), v1::KeyType::Domain.into()],
        min_count: 2,
        max_evaluations_per_epoch: 100_000,
        ..SharingPolicy::default()
    }
}

/// Both sides agree.
async fn agree(a: &TestNode, side_a: &Side, b: &TestNode, side_b: &Side) {
    let set = |policy, partner: &str| SetPolicyRequest {
        partner: partner.to_owned(),
        policy: Some(policy),
    };
    let mut sharing = a.sharing().await;
    sharing
        .set_policy(set(policy(side_a), "Globex"))
        .await
        .unwrap();
    let state = async |node: &TestNode, partner: &str, wanted: SharingState| {
        let request = GetSharingRequest {
            partner: partner.to_owned(),
        };
        let sharing = node.sharing().await.get_sharing(request).await.unwrap();
        sharing.into_inner().sharing.unwrap().state() == wanted
    };
    eventually("the proposal arrives", || {
        state(b, "Acme", SharingState::AwaitingMyDecision)
    })
    .await;
    b.sharing()
        .await
        .set_policy(set(policy(side_b), "Acme"))
        .await
        .unwrap();
    for _ in 0..200 {
        if state(a, "Globex", SharingState::Active).await
            && state(b, "Acme", SharingState::Active).await
        {
            return;
        }
        for (node, partner) in [(a, "Globex"), (b, "Acme")] {
            if state(node, partner, SharingState::AwaitingMyDecision).await {
                let request = ApproveProposalRequest {
                    partner: partner.to_owned(),
                };
                let _ = node.sharing().await.approve_proposal(request).await;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("both sides agree");
}

async fn runs(node: &TestNode) -> MatchServiceClient<Authorized> {
    MatchServiceClient::new(node.api().await)
}

async fn overlap(node: &TestNode) -> OverlapServiceClient<Authorized> {
    OverlapServiceClient::new(node.api().await)
}

async fn start(node: &TestNode, partner: &str, request_id: &str) -> Result<Run, tonic::Status> {
    let request = StartRunRequest {
        partner: partner.to_owned(),
        full: true,
        request_id: request_id.to_owned(),
    };
    let response = runs(node).await.start_run(request).await?;
    Ok(response.into_inner().run.unwrap())
}

/// Watches a run to its end; returns every state seen.
async fn watch(node: &TestNode, run: &str) -> Vec<Run> {
    let request = WatchRunRequest {
        run: run.to_owned(),
    };
    let mut stream = runs(node)
        .await
        .watch_run(request)
        .await
        .unwrap()
        .into_inner();
    let mut seen = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        seen.push(message.run.unwrap());
    }
    seen
}

async fn list(
    node: &TestNode,
    request: ListSharedCustomersRequest,
) -> v1::ListSharedCustomersResponse {
    overlap(node)
        .await
        .list_shared_customers(request)
        .await
        .unwrap()
        .into_inner()
}

fn of(partner: &str) -> ListSharedCustomersRequest {
    ListSharedCustomersRequest {
        partner: partner.to_owned(),
        ..ListSharedCustomersRequest::default()
    }
}

fn sides() -> (Side, Side) {
    let (mut side_a, mut side_b) = (all(Tier::List), all(Tier::List));
    for side in [&mut side_a, &mut side_b] {
        side.match_on = [oracle::Type::Email, oracle::Type::Domain].into();
        side.min_count = 2;
    }
    side_a.tiers.insert("Churned".to_owned(), Tier::Count);
    side_b.tiers.insert("Churned".to_owned(), Tier::Count);
    side_b.tiers.insert("Lost".to_owned(), Tier::Hidden);
    let stages = ["Prospect", "Customer", "Lead"];
    side_a.rows = (0..30)
        .map(|i| row(&format!("a{i:02}"), stages[i as usize % 3], &[email(i)]))
        .collect();
    side_a.rows.push(row("a-churned", "Churned", &[email(100)]));
    side_a.rows.push(row("a-alone", "Customer", &[email(999)]));
    side_a.rows.push(row("a-merged", "Prospect", &[email(0)]));
    side_b.rows = (0..30)
        .map(|i| row(&format!("b{i:02}"), "Customer", &[email(i)]))
        .collect();
    side_b.rows.push(row("b-lost", "Lost", &[email(999)]));
    side_b
        .rows
        .push(row("b-churned", "Customer", &[email(100)]));
    (side_a, side_b)
}

#[tokio::test(flavor = "multi_thread")]
async fn p05_p12_p14_p15_p16_a_run_and_what_can_be_read_of_it() {
    let (a, b) = pair().await;
    let (side_a, side_b) = sides();
    import(&a, &side_a);
    import(&b, &side_b);

    // P-01: unknown partners are not found, and nothing is agreed yet.
    let refused = start(&a, "Nobody", "").await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::NotFound, "NOT_FOUND".to_owned())
    );
    let refused = start(&a, "Globex", "").await.unwrap_err();
    assert_eq!(reason(&refused), "SHARING_NOT_ACTIVE");
    agree(&a, &side_a, &b, &side_b).await;
    let empty = list(&a, of("Globex")).await;
    assert_eq!(empty.empty_reason(), EmptyReason::NoRun);

    let run = start(&a, "Globex", "request-1").await.unwrap();
    assert_eq!(start(&a, "Globex", "request-1").await.unwrap().id, run.id);
    let seen = watch(&a, &run.id).await;
    let done = seen.last().unwrap();
    assert_eq!(done.state(), RunState::Done, "{:?}", done.failure);
    assert!(done.summary.as_ref().unwrap().sent_bytes > 0);
    assert!(seen.is_sorted_by_key(|run| run.state));
    assert_eq!(start(&a, "Globex", "request-1").await.unwrap().id, run.id);

    // P-05, P-06, P-09: both matrices are what the oracle says.
    for (node, partner, mine, theirs) in [
        (&a, "Globex", &side_a, &side_b),
        (&b, "Acme", &side_b, &side_a),
    ] {
        let expected = oracle::view(mine, theirs);
        let request = GetMatrixRequest {
            partner: partner.to_owned(),
        };
        eventually("the other side is done, too", || async {
            let matrix = overlap(node)
                .await
                .get_matrix(request.clone())
                .await
                .unwrap();
            !matrix.into_inner().matrix.unwrap().cells.is_empty()
        })
        .await;
        let matrix = overlap(node)
            .await
            .get_matrix(request.clone())
            .await
            .unwrap();
        let matrix = matrix.into_inner().matrix.unwrap();
        assert_eq!(matrix.shared_customers, expected.shared_customers);
        assert_eq!(matrix.cells.len(), expected.cells.len());
        for cell in &matrix.cells {
            let state = cell
                .state()
                .as_str_name()
                .trim_start_matches("CELL_STATE_")
                .to_owned();
            let wanted = &expected.cells[&(cell.mine.clone(), cell.theirs.clone())];
            assert_eq!(
                (state.as_str(), cell.count),
                *wanted,
                "{} x {}",
                cell.mine,
                cell.theirs
            );
        }
        let ids: Vec<String> = list(node, of(partner))
            .await
            .customers
            .into_iter()
            .map(|c| c.id)
            .collect();
        let wanted: Vec<String> = expected.shared.iter().map(|s| s.id.clone()).collect();
        assert_eq!(ids, wanted);
    }

    // P-12: a cell's filter gives that cell's customers, page by page.
    let expected = oracle::view(&side_a, &side_b);
    let wanted: Vec<String> = expected
        .shared
        .iter()
        .filter(|s| s.mine == "Customer" && s.theirs == "Customer")
        .map(|s| s.id.clone())
        .collect();
    let mut request = ListSharedCustomersRequest {
        mine: "Customer".to_owned(),
        theirs: "Customer".to_owned(),
        page_size: 3,
        ..of("Globex")
    };
    let mut ids = Vec::new();
    loop {
        let page = list(&a, request.clone()).await;
        assert_eq!(page.total_size, wanted.len() as u64);
        ids.extend(page.customers.into_iter().map(|customer| customer.id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(ids, wanted);
    // A token is bound to its filter.
    request.mine = "Lead".to_owned();
    let refused = overlap(&a)
        .await
        .list_shared_customers(request)
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");

    // P-13: why a filter is empty.
    let empty = async |mine: &str, theirs: &str| {
        let response = list(
            &a,
            ListSharedCustomersRequest {
                mine: mine.to_owned(),
                theirs: theirs.to_owned(),
                ..of("Globex")
            },
        )
        .await;
        assert!(response.customers.is_empty());
        response.empty_reason()
    };
    assert_eq!(empty("Customer", "Churned").await, EmptyReason::CountsOnly);
    assert_eq!(empty("Deal", "Customer").await, EmptyReason::NoMatch);

    // P-14: search is case-folded and narrows the cell's filter.
    let found = list(
        &a,
        ListSharedCustomersRequest {
            search: "nAmE oF A01".to_owned(),
            ..of("Globex")
        },
    )
    .await;
    assert_eq!(found.total_size, 1);
    assert_eq!(found.customers[0].id, "a01");

    // P-15: targets.
    let targets = SetTargetsRequest {
        partner: "Globex".to_owned(),
        ids: vec!["a01".to_owned(), "a02".to_owned()],
        target: true,
    };
    let changed = overlap(&a)
        .await
        .set_targets(targets.clone())
        .await
        .unwrap();
    assert_eq!(changed.into_inner().changed, 2);
    let changed = overlap(&a).await.set_targets(targets).await.unwrap();
    assert_eq!(changed.into_inner().changed, 0);
    let marked = list(
        &a,
        ListSharedCustomersRequest {
            targets_only: true,
            ..of("Globex")
        },
    )
    .await;
    let ids: Vec<&str> = marked.customers.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["a01", "a02"]);
    assert!(marked.customers.iter().all(|customer| customer.target));

    // P-16: detail by any of my rows, with what the partner permits.
    let detail = async |id: &str| {
        let request = GetSharedCustomerRequest {
            partner: "Globex".to_owned(),
            id: id.to_owned(),
        };
        overlap(&a).await.get_shared_customer(request).await
    };
    let merged = detail("a-merged")
        .await
        .unwrap()
        .into_inner()
        .customer
        .unwrap();
    assert_eq!(merged.ids, ["a-merged", "a00"]);
    assert_eq!(merged.partner_fields["name"], "Name of b00");
    assert_eq!(merged.my_fields["name"], format!("Name of {}", merged.id));
    assert_eq!(merged.r#ref.len(), 32);
    // P-09: what the partner hides is not there at all.
    assert_eq!(detail("a-alone").await.unwrap_err().code(), Code::NotFound);

    // Rule 2.8: a customer of a counted stage may be listed to me and not be named by me.
    let directory = a.path().to_owned();
    let partnership = a.partnership("Globex").await.unwrap().id;
    let name = |id: &'static str| {
        let (directory, partnership) = (directory.clone(), partnership.clone());
        let store = a.node().store.clone();
        async move {
            store
                .read(move |connection| {
                    own_tier_allows_naming(connection, &directory, &partnership, id)
                })
                .await
        }
    };
    assert_eq!(
        hex::encode(name("a-merged").await.unwrap().handle),
        merged.r#ref
    );
    let refused = name("a-churned").await.unwrap_err();
    assert_eq!(refused.reason(), Reason::OwnTierCountsOnly);
    assert_eq!(
        name("a-alone").await.unwrap_err().reason(),
        Reason::NotFound
    );

    // Z-08
    let explain = async |id: &str| {
        let request = ExplainCustomerRequest {
            partner: "Globex".to_owned(),
            id: id.to_owned(),
        };
        overlap(&a)
            .await
            .explain_customer(request)
            .await
            .unwrap()
            .into_inner()
    };
    let merged = explain("a-merged").await;
    assert_eq!(merged.merged_ids, ["a-merged", "a00"]);
    assert_eq!(merged.keys[0].matched, Some(true));
    // The partner counts one stage: whether it has this customer there is the partner's to know.
    assert_eq!(explain("a-alone").await.keys[0].matched, None);

    let request = ListRunsRequest {
        partner: "Globex".to_owned(),
        ..ListRunsRequest::default()
    };
    let listed = runs(&a)
        .await
        .list_runs(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.runs.len(), 1);

    // Z-06: withdrawn permissions take what was derived from them along.
    let request = RevokeSharingRequest {
        partner: "Globex".to_owned(),
    };
    a.sharing().await.revoke_sharing(request).await.unwrap();
    assert_eq!(
        list(&a, of("Globex")).await.empty_reason(),
        EmptyReason::NoRun
    );
    eventually("the partner's result goes, too", || async {
        list(&b, of("Acme")).await.empty_reason() == EmptyReason::NoRun
    })
    .await;
    for node in [&a, &b] {
        eventually("the files go, too", || async {
            std::fs::read_dir(node.path().join("runs")).unwrap().count() == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_start_at_once_and_one_run_is_done() {
    let (a, b) = pair().await;
    let (side_a, side_b) = sides();
    import(&a, &side_a);
    import(&b, &side_b);
    agree(&a, &side_a, &b, &side_b).await;
    for round in 0..3 {
        let id = format!("round-{round}");
        let (run_a, run_b) = tokio::join!(start(&a, "Globex", &id), start(&b, "Acme", &id));
        let (run_a, run_b) = (run_a.unwrap(), run_b.unwrap());
        let (seen_a, seen_b) = tokio::join!(watch(&a, &run_a.id), watch(&b, &run_b.id));
        for seen in [seen_a, seen_b] {
            let last = seen.last().unwrap();
            assert_eq!(last.state(), RunState::Done, "{:?}", last.failure);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_partner_that_is_away_fails_by_the_network() {
    let (a, mut b) = pair().await;
    let (side_a, side_b) = sides();
    import(&a, &side_a);
    import(&b, &side_b);
    agree(&a, &side_a, &b, &side_b).await;
    b.stop().await;
    let run = start(&a, "Globex", "").await.unwrap();
    let seen = watch(&a, &run.id).await;
    let failure = seen.last().unwrap().failure.clone().unwrap();
    assert_eq!(failure.reason, "PARTNER_UNREACHABLE");
    assert_eq!(failure.fault(), Fault::Network);
    // A run that is over can be asked for, and cancelling it changes nothing.
    let request = GetRunRequest {
        run: run.id.clone(),
    };
    let got = runs(&a)
        .await
        .get_run(request)
        .await
        .unwrap()
        .into_inner()
        .run
        .unwrap();
    assert_eq!(got.state(), RunState::Failed);
    let request = CancelRunRequest { run: run.id };
    let cancelled = runs(&a)
        .await
        .cancel_run(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(cancelled.run.unwrap().state(), RunState::Failed);
}

/// Two nodes whose first run is done.
async fn matched() -> (TestNode, TestNode) {
    let (a, b) = pair().await;
    let (side_a, side_b) = sides();
    import(&a, &side_a);
    import(&b, &side_b);
    agree(&a, &side_a, &b, &side_b).await;
    run_through(&a).await;
    (a, b)
}

async fn run_through(node: &TestNode) {
    let run = start(node, "Globex", "").await.unwrap();
    let seen = watch(node, &run.id).await;
    let done = seen.last().unwrap();
    assert_eq!(done.state(), RunState::Done, "{:?}", done.failure);
}

/// Where the files of the result in force are.
fn result_directory(node: &TestNode) -> PathBuf {
    let read = |connection: &Connection| {
        let sql = "SELECT directory FROM matching_results";
        Ok(connection.query_row(sql, [], |row| row.get::<_, String>(0))?)
    };
    let name = node.node().store.read_blocking(read).unwrap();
    node.path().join("runs").join(name)
}

/// A reader that comes between a run's end and the removal of what it replaced: the files that its snapshot names are gone.
#[tokio::test(flavor = "multi_thread")]
async fn p15_collaboration_reads_on_when_a_run_takes_its_files_away() {
    let (a, _b) = matched().await;
    let node = Arc::clone(a.node());
    let of_run = |connection: &Connection| {
        let sql = "SELECT partnership_id, run_id FROM matching_results";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
        Ok::<(_, String), Error>(connection.query_row(sql, [], read)?)
    };
    let before = result_directory(&a);
    tokio::task::block_in_place(|| {
        node.store.read_blocking(|connection| {
            let (partnership, run) = of_run(connection)?;
            Handle::current().block_on(run_through(&a));
            assert!(!before.exists() && result_directory(&a) != before);
            assert_eq!(of_run(connection)?.1, run, "the snapshot is the old one");
            let customers = Results::default();
            let found = customers.by_customer(&node, connection, &partnership, "a-merged")?;
            assert_eq!(found.unwrap().ids, ["a-merged", "a00"]);
            Ok(())
        })
    })
    .unwrap();
}

/// A result's file is a pipe, at which the reader waits while another result comes into force.
#[tokio::test(flavor = "multi_thread")]
async fn z08_explain_looks_again_when_a_run_takes_its_files_away() {
    let (a, _b) = matched().await;
    let gate = a.path().join("gate");
    for wait_ms in [200, 2_000, 20_000] {
        // As a run would leave it, under another name.
        let before = result_directory(&a);
        let after = before.with_file_name(format!("{:032x}", wait_ms));
        std::fs::create_dir(&after).unwrap();
        for entry in std::fs::read_dir(&before).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), after.join(entry.file_name())).unwrap();
            }
        }
        let columns = before.join("columns");
        std::fs::remove_file(&columns).unwrap();
        let made = Command::new("mkfifo").arg(&columns).status().unwrap();
        assert!(made.success());
        std::fs::hard_link(&columns, &gate).unwrap();

        let mut client = overlap(&a).await;
        let explaining = tokio::spawn(async move {
            let request = ExplainCustomerRequest {
                partner: "Globex".to_owned(),
                id: "a-merged".to_owned(),
            };
            client.explain_customer(request).await
        });
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let name = after.file_name().unwrap().to_str().unwrap().to_owned();
        a.node()
            .store
            .write_blocking(|tx| {
                tx.execute("UPDATE matching_results SET directory = ?1", [&name])?;
                Ok(())
            })
            .unwrap();
        std::fs::remove_dir_all(&before).unwrap();
        // Opens if somebody waits at the other end.
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(&gate);
        let explained = explaining.await.unwrap().unwrap().into_inner();
        assert_eq!(explained.merged_ids, ["a-merged", "a00"]);
        assert_eq!(explained.keys[0].matched, Some(true));
        std::fs::remove_file(&gate).unwrap();
        if opened.is_ok() {
            return;
        }
    }
    panic!("the reader never came to the pipe in time");
}
