//! A run at size. `OVERLAP_SCALE=20` runs 2^20 customers a side, one e-mail each, half of them shared; the default is small.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use std::{fmt::Write as _, time::Duration};

use oracle::{
    Tier,
    harness::{TestNode, run_pair},
    world::all,
};
use overlap_server::overlap::reader::Filter;

/// A line of `/proc/self/status`, in KiB.
fn status_kib(name: &str) -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

/// CPU seconds of this process.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |index: usize| -> f64 {
        fields
            .get(index)
            .and_then(|f| f.parse().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn customers(prefix: &str, from: u64, count: u64) -> String {
    let mut file = String::from("id,stage,name,email\n");
    let stages = ["Prospect", "Lead", "Deal", "Customer", "Lost", "Churned"];
    for number in from..from + count {
        let stage = stages[(number % 6) as usize];
        writeln!(
            file,
            "{prefix}{number:08},{stage},Company {number},person{number}@customers.example"
        )
        .unwrap();
    }
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn p06_half_of_a_large_set_is_shared() {
    let scale: u32 = std::env::var("OVERLAP_SCALE")
        .ok()
        .and_then(|scale| scale.parse().ok())
        .unwrap_or(12);
    let count = 1_u64 << scale;
    let (a, b) = (TestNode::new(1), TestNode::new(2));
    a.import_csv(&customers("a", 0, count));
    b.import_csv(&customers("b", count / 2, count));
    let (side_a, side_b) = (all(Tier::List), all(Tier::List));
    let before = cpu_s();
    let resident_before = status_kib("VmRSS:");
    let (done_a, done_b) = run_pair((&a, &side_a), (&b, &side_b), 1).await;
    let (done_a, done_b) = (done_a.unwrap(), done_b.unwrap());
    let cpu = cpu_s() - before;
    println!(
        "2^{scale} a side: {cpu:.2} s CPU both nodes, RSS after the run {} MiB (before {} MiB)",
        status_kib("VmRSS:") / 1024,
        resident_before / 1024,
    );
    for done in [done_a, done_b] {
        println!(
            "sent {} B ({:.1} B a pair), {:?}, {:?}",
            done.summary.sent_bytes,
            done.summary.sent_bytes as f64 / count as f64,
            done.summary.flows,
            done.summary.phase_s
        );
    }

    let (record, result) = a.open_result();
    assert_eq!(record.matrix.shared_customers(), Some(count / 2));
    assert_eq!(result.len(), count / 2);
    let start = cpu_s();
    for _ in 0..100 {
        let page = result
            .page(&Filter::default(), 0, 50, Some(count / 2))
            .unwrap();
        assert_eq!(page.customers.len(), 50);
        assert_eq!(page.customers[0].id, format!("a{:08}", count / 2));
    }
    println!("first page: {:.2} ms", (cpu_s() - start) * 10.0);
    let start = cpu_s();
    let filter = Filter {
        search: format!("COMPANY {}", count - 1),
        ..Filter::default()
    };
    let page = result.page(&filter, 0, 50, None).unwrap();
    assert_eq!(page.total, 1);
    println!("search: {:.0} ms", (cpu_s() - start) * 1000.0);
    tokio::time::sleep(Duration::from_millis(1)).await;
}
