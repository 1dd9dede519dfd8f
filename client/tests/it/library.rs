//! The library where the command line does not reach.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use overlap_client::{
    ChangeFilter, Client, ClientConfig, Customer, EngagementFilter, Error, Import, ImportFormat,
    LeaderboardOrder, LeaderboardRow, Record, RunState, SharedFilter, UpsertOptions, Watched, v1,
};
use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    fake::{FakeNode, REQUEST_ID},
    fake_program::deal,
};

/// Runs a test with a client of a node.
fn with_client<F: Future<Output = ()>>(node: &FakeNode, test: impl FnOnce(Client) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = ClientConfig::from_node_dir(node.dir()).unwrap();
        test(Client::connect(config).await.unwrap()).await;
    });
}

#[test]
fn the_node_says_what_it_is() {
    with_client(&FakeNode::start(), |client| async move {
        assert_eq!(client.node().await.unwrap().organization, "Acme");
    });
}

#[test]
fn customers_go_up_in_batches() {
    let node = FakeNode::start();
    with_client(&node, |client| async move {
        let customers = stream::iter(0..1201).map(|number| Customer {
            id: format!("k{number}"),
            stage: "Lead".to_owned(),
            ..Customer::default()
        });
        let options = UpsertOptions {
            replace_all: true,
            ..UpsertOptions::default()
        };
        let report = client.upsert_customers(options, customers).await.unwrap();
        assert_eq!(report.inserted, 1201);
    });
    let messages = &node.requests("upsert_customers")[0];
    assert_eq!(messages.matches("UpsertCustomersRequest").count(), 5);
    assert_eq!(messages.matches("last: true").count(), 1);
    assert!(messages.contains("last: true }]"), "the end is said last");
    assert_eq!(messages.matches("replace_all: true").count(), 1);
}

/// A node takes messages of 4 MiB unless it is told otherwise, of 512 KiB at the least.
#[test]
fn large_customers_and_records_go_up_in_messages_that_every_node_takes() {
    let node = FakeNode::start();
    with_client(&node, |client| async move {
        let customers = stream::iter(0..600).map(|number| Customer {
            id: format!("k{number}"),
            stage: "Lead".to_owned(),
            name: "x".repeat(10_000),
            ..Customer::default()
        });
        let options = UpsertOptions::default();
        let report = client.upsert_customers(options, customers).await.unwrap();
        assert_eq!(report.inserted, 600);
        let records = stream::iter(0..600).map(|number| {
            Record(v1::Record {
                id: format!("{number:010000}"),
                ..deal()
            })
        });
        client.ingest_records(records).await.unwrap();
    });
    for (call, message) in [
        ("upsert_customers", "UpsertCustomersRequest {"),
        ("ingest_records", "IngestRecordsRequest {"),
    ] {
        let messages = &node.requests(call)[0];
        let lengths: Vec<usize> = messages.split(message).skip(1).map(str::len).collect();
        // 6,000,000 bytes in messages of up to 262,144, beside the first and the last one.
        assert!((23..=30).contains(&lengths.len()), "{lengths:?}");
        // As text they are somewhat longer than on the wire.
        assert!(
            lengths.iter().all(|length| *length < 512 << 10),
            "{lengths:?}"
        );
    }
}

#[test]
fn a_list_is_fetched_as_far_as_it_is_read() {
    let node = FakeNode::start();
    with_client(&node, |client| async move {
        let shared = client.shared_customers("Globex", SharedFilter::default());
        let first: Vec<_> = shared.take(2).try_collect().await.unwrap();
        assert_eq!(first[1].id, "c2");
    });
    assert_eq!(node.requests("list_shared_customers").len(), 1);
}

#[test]
fn watching_ends_with_the_run() {
    with_client(&FakeNode::start(), |client| async move {
        let updates: Vec<_> = client.watch_run("r_1").try_collect().await.unwrap();
        let states: Vec<_> = updates.iter().map(|run| run.state).collect();
        assert_eq!(states, [RunState::Evaluating, RunState::Done]);
        let progress = updates[0].progress.as_ref().unwrap();
        assert_eq!((progress.items_done, progress.eta_s), (450, Some(9.0)));
    });
}

/// A file on a disk that breaks after some bytes.
struct BreakingDisk(usize);

impl AsyncRead for BreakingDisk {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0 == 0 {
            return Poll::Ready(Err(io::Error::other("the disk broke")));
        }
        let length = buffer.remaining().min(self.0);
        buffer.put_slice(&vec![b'x'; length]);
        self.0 -= length;
        Poll::Ready(Ok(()))
    }
}

fn replacing_all() -> Import {
    Import {
        file_name: "mine.csv".to_owned(),
        format: ImportFormat::Csv,
        default_region: None,
        replace_all: true,
        size_bytes: None,
    }
}

#[test]
fn a_file_that_breaks_off_does_not_look_finished() {
    let node = FakeNode::start();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    with_client(&node, |client| async move {
        let error = client
            .import_customers(replacing_all(), BreakingDisk(600_000), move |bytes| {
                counter.store(bytes, Ordering::SeqCst);
            })
            .await
            .unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        assert_eq!(error.to_string(), "mine.csv: the disk broke");
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    assert!(sent.load(Ordering::SeqCst) > 0);
    assert!(
        node.requests("import_customers").is_empty(),
        "the node never saw an end"
    );
}

#[test]
fn an_upload_past_its_deadline_does_not_look_finished() {
    let node = FakeNode::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut config = ClientConfig::from_node_dir(node.dir()).unwrap();
        config.transfer_timeout = Duration::from_millis(100);
        let client = Client::connect(config).await.unwrap();
        // A file that never ends.
        let (_open, content) = tokio::io::duplex(64);
        // Calls may run on any thread.
        let call = tokio::spawn(async move {
            client
                .import_customers(replacing_all(), content, |_| ())
                .await
        });
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    });
    assert!(node.requests("import_customers").is_empty());
}

#[test]
fn every_kind_of_call_may_run_on_any_thread() {
    let node = FakeNode::start();
    with_client(&node, |client| async move {
        tokio::spawn(async move {
            client.matrix("Globex").await?;
            let shared = client.shared_customers("Globex", SharedFilter::default());
            shared.try_collect::<Vec<_>>().await?;
            client.partnerships(true).try_collect::<Vec<_>>().await?;
            client.watch_run("r_1").try_collect::<Vec<_>>().await?;
            let nobody = stream::iter(Vec::new());
            client.delete_customers(nobody).await?;
            let customers = stream::iter(Vec::new());
            client
                .upsert_customers(UpsertOptions::default(), customers)
                .await?;
            Ok::<_, Error>(())
        })
        .await
        .unwrap()
        .unwrap();
    });
}

#[test]
fn pages_of_a_leaderboard_are_one_stream() {
    let node = FakeNode::start();
    with_client(&node, |client| async move {
        let filter = EngagementFilter::default();
        let rows: Vec<LeaderboardRow> = client
            .leaderboard(&filter, LeaderboardOrder::default())
            .try_collect()
            .await
            .unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["Initech", "Umbrella", "Hooli"]);
        assert_eq!(rows[1].r#type, None, "not said is not a type");
    });
    assert_eq!(node.requests("list_leaderboard").len(), 2);
}

#[test]
fn records_go_up_in_batches() {
    let node = FakeNode::start();
    with_client(&node, |client| async move {
        let records = stream::iter(0..1201).map(|_| Record(deal()));
        let report = client.ingest_records(records).await.unwrap();
        assert_eq!(report.inserted, 1201);
    });
    let messages = &node.requests("ingest_records")[0];
    assert_eq!(
        messages.matches("IngestRecordsRequest").count(),
        4,
        "and the end"
    );
    assert_eq!(messages.matches("last: true").count(), 1);
}

#[test]
fn changes_are_followed_from_a_cursor() {
    with_client(&FakeNode::start(), |client| async move {
        let watched: Vec<Result<Watched, Error>> = client
            .watch_changes(ChangeFilter::default())
            .collect()
            .await;
        // Silence, a change, and the break; the cursor of the change misses nothing.
        assert_eq!(watched[0].as_ref().unwrap().change, None);
        let last = watched[1].as_ref().unwrap();
        assert_eq!(last.change.as_ref().unwrap().subject, "s1");
        assert_eq!(watched[2].as_ref().unwrap_err().reason(), "SHUTTING_DOWN");
        let filter = ChangeFilter {
            cursor: Some(last.cursor.clone()),
            ..ChangeFilter::default()
        };
        let next: Vec<Watched> = client.watch_changes(filter).try_collect().await.unwrap();
        assert_eq!(next[0].change.as_ref().unwrap().subject, "s2");
    });
}

#[test]
fn a_watch_that_ends_badly_says_what_the_nodes_log_calls_it() {
    with_client(&FakeNode::start(), |client| async move {
        let mut updates = pin!(client.watch_run("r_gone"));
        assert!(updates.try_next().await.unwrap().is_some());
        let error = updates.try_next().await.unwrap_err();
        assert_eq!(error.reason(), "NOT_FOUND");
        assert_eq!(error.request_id(), Some(REQUEST_ID));
    });
}

#[test]
fn a_download_that_is_not_what_was_announced_ends_with_an_error() {
    with_client(&FakeNode::start(), |client| async move {
        let content = |id: &'static str| {
            let client = client.clone();
            async move {
                let download = client.download_asset(Some("Globex"), id).await?;
                assert_eq!(download.asset.size_bytes, 5);
                download.chunks.try_concat().await
            }
        };
        assert_eq!(content("ast_1").await.unwrap(), b"hello");
        for id in ["ast_forged", "ast_short", "ast_long"] {
            let error = content(id).await.unwrap_err();
            assert_eq!(error.reason(), "NODE_ANSWER_INVALID", "{id}");
        }
    });
}
