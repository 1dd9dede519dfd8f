//! The whole job, measured: two nodes as processes with durable stores and mTLS, n customers each, one run.
//!
//! CPU time is each node process's own, from the start of the run to its result on that node; importing does not count.
//! With `--churn`, part of the customers change afterwards and a delta run follows, measured alike.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    pin::pin,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use futures::{StreamExt as _, TryStreamExt as _};
use overlap_client::{
    Client, ClientConfig, Import, ImportFormat, KeyType, Run, RunState, SharingPolicy,
    SharingState, StartRun, Tier,
};
use serde::Serialize;

/// Runs two nodes with n customers each, half of them shared, and measures what the run costs.
#[derive(Parser)]
struct Arguments {
    /// Customers a side
    #[arg(long, default_value_t = 1 << 16)]
    customers: u32,
    /// Engine for curve arithmetic, as in the node's configuration
    #[arg(long, default_value = "auto")]
    backend: String,
    /// Which CPUs the nodes may use
    #[arg(long, value_enum, default_value = "any")]
    pin: Pin,
    /// Then change this part of the customers on both sides, 0.01 for one in a hundred, and measure a delta run
    #[arg(long)]
    churn: Option<f64>,
    /// How often to do that: the customers change and a delta run follows, day after day
    #[arg(long, default_value_t = 1)]
    days: u32,
    /// Where to make the nodes' directories; they stay [default: a temporary directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pin {
    /// Both nodes on CPU 0
    One,
    /// A on CPU 0, B on CPU 1
    Two,
    /// As the system likes
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What was measured; a contract.
#[derive(Serialize)]
struct Report {
    customers: u32,
    matched: u64,
    backend: String,
    wall_s: f64,
    wire_bytes: u64,
    nodes: Nodes,
    /// The first delta run.
    delta: Option<DeltaReport>,
    /// CPU of both nodes in each delta run, as a part of the full run's.
    delta_cpu_ratios: Vec<f64>,
}

/// A delta run after a full one.
#[derive(Serialize)]
struct DeltaReport {
    churn: f64,
    matched: u64,
    wall_s: f64,
    wire_bytes: u64,
    nodes: Nodes,
    /// CPU of both nodes, as a part of the full run's.
    cpu_ratio: f64,
}

#[derive(Serialize)]
struct Nodes {
    a: NodeReport,
    b: NodeReport,
}

#[derive(Serialize)]
struct NodeReport {
    cpu_s: f64,
    peak_rss_bytes: u64,
    sent_bytes: u64,
    phases: std::collections::BTreeMap<String, f64>,
}

/// A node process; killed when dropped.
struct Node {
    process: Child,
    /// Kept open: the node writes to it.
    _lines: BufReader<ChildStdout>,
    client: Client,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let base = arguments.dir.as_deref().unwrap_or(temporary.path());
    let a = start(base, "a", arguments).await?;
    let b = start(base, "b", arguments).await?;
    let invite = a.client.create_invite(None, None).await?;
    b.client.accept_invite(&invite.invite, None).await?;
    let mut companies = [
        Company::new("a", arguments.customers),
        Company::new("b", arguments.customers),
    ];
    for (node, company) in [&a, &b].into_iter().zip(&companies) {
        import(&node.client, company).await?;
    }
    a.client.set_policy("b", policy()).await?;
    await_sharing(&b.client, "a", SharingState::AwaitingMyDecision).await?;
    b.client.set_policy("a", policy()).await?;
    await_sharing(&a.client, "b", SharingState::Active).await?;
    await_sharing(&b.client, "a", SharingState::Active).await?;

    let full = run(&a, &b).await?;
    ensure!(full.full, "the first run was no full run");
    let expected = shared(&companies);
    ensure!(
        full.matched == expected,
        "{} of {expected} shared customers were found",
        full.matched
    );
    let mut report = Report {
        customers: arguments.customers,
        matched: full.matched,
        backend: full.backend,
        wall_s: full.wall_s,
        wire_bytes: full.wire_bytes,
        nodes: full.nodes,
        delta: None,
        delta_cpu_ratios: Vec::new(),
    };
    let Some(churn) = arguments.churn else {
        return print(&report, arguments.output);
    };
    for day in 0..arguments.days {
        for (node, company) in [&a, &b].into_iter().zip(&mut companies) {
            company.change(churn, day)?;
            import(&node.client, company).await?;
        }
        let delta = run(&a, &b).await?;
        ensure!(!delta.full, "a run after changes was no delta run");
        let expected = shared(&companies);
        ensure!(
            delta.matched == expected,
            "{} of {expected} shared customers were found after the changes",
            delta.matched
        );
        let cpu_ratio = delta.nodes.cpu_s() / report.nodes.cpu_s();
        report.delta_cpu_ratios.push(cpu_ratio);
        report.delta.get_or_insert(DeltaReport {
            churn,
            matched: delta.matched,
            wall_s: delta.wall_s,
            wire_bytes: delta.wire_bytes,
            cpu_ratio,
            nodes: delta.nodes,
        });
    }
    print(&report, arguments.output)
}

/// One run, measured.
struct Measured {
    full: bool,
    matched: u64,
    backend: String,
    wall_s: f64,
    wire_bytes: u64,
    nodes: Nodes,
}

async fn run(a: &Node, b: &Node) -> Result<Measured> {
    let before = [cpu_s(a)?, cpu_s(b)?];
    for node in [a, b] {
        // Peak memory from here on.
        fs::write(format!("/proc/{}/clear_refs", node.process.id()), "5")?;
    }
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    let started = Instant::now();
    let a_run = a.client.start_run("b", StartRun::default()).await?;
    let a_run = follow(&a.client, a_run).await?;
    let b_run = pin!(b.client.runs("a")).try_next().await?;
    let b_run = follow(&b.client, b_run.context("the run left no trace at b")?).await?;
    let wall_s = started.elapsed().as_secs_f64();
    let after = [cpu_s(a)?, cpu_s(b)?];
    Ok(Measured {
        full: a_run.full,
        matched: a.client.matrix("b").await?.shared_customers.unwrap_or(0),
        backend: summary(&a_run)?.backend.clone(),
        wall_s,
        wire_bytes: summary(&a_run)?.sent_bytes + summary(&b_run)?.sent_bytes,
        nodes: Nodes {
            a: node_report(a, &a_run, after[0] - before[0])?,
            b: node_report(b, &b_run, after[1] - before[1])?,
        },
    })
}

impl Nodes {
    fn cpu_s(&self) -> f64 {
        self.a.cpu_s + self.b.cpu_s
    }
}

fn print(report: &Report, output: Output) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
        return Ok(());
    }
    let customers = f64::from(report.customers);
    writeln!(
        out,
        "{} customers a side, {} matched, engine {}: {:.1} s, {:.1} bytes on the wire a pair",
        report.customers,
        report.matched,
        report.backend,
        report.wall_s,
        report.wire_bytes as f64 / customers
    )?;
    print_nodes(&mut out, &report.nodes)?;
    if let Some(delta) = &report.delta {
        writeln!(
            out,
            "delta run after {} of the customers changed, {} matched: {:.1} s, {:.1} MB on the wire",
            delta.churn,
            delta.matched,
            delta.wall_s,
            delta.wire_bytes as f64 / 1e6
        )?;
        print_nodes(&mut out, &delta.nodes)?;
        writeln!(out, "  {:.2}% of the full run", 100.0 * delta.cpu_ratio)?;
    }
    let ratios = &report.delta_cpu_ratios;
    if ratios.len() > 1 {
        let percents = ratios.iter().map(|ratio| format!("{:.1}", 100.0 * ratio));
        writeln!(
            out,
            "{} delta runs: {}% of the full run, {:.2}% on average",
            ratios.len(),
            percents.collect::<Vec<_>>().join(" "),
            100.0 * ratios.iter().sum::<f64>() / ratios.len() as f64
        )?;
    }
    Ok(())
}

fn print_nodes(out: &mut impl std::io::Write, nodes: &Nodes) -> Result<()> {
    for (name, node) in [("a", &nodes.a), ("b", &nodes.b)] {
        writeln!(
            out,
            "  {name}: CPU {:.2} s, peak memory {:.0} MB, sent {:.1} MB, phases {:?}",
            node.cpu_s,
            node.peak_rss_bytes as f64 / 1e6,
            node.sent_bytes as f64 / 1e6,
            node.phases
        )?;
    }
    writeln!(out, "  both: CPU {:.2} s", nodes.cpu_s())?;
    Ok(())
}

fn node_report(node: &Node, run: &Run, cpu_s: f64) -> Result<NodeReport> {
    let summary = summary(run)?;
    Ok(NodeReport {
        cpu_s,
        peak_rss_bytes: peak_rss_bytes(node)?,
        sent_bytes: summary.sent_bytes,
        phases: summary.phase_s.clone(),
    })
}

fn summary(run: &Run) -> Result<&overlap_client::RunSummary> {
    run.summary.as_ref().context("the run has no summary")
}

async fn start(base: &Path, name: &str, arguments: &Arguments) -> Result<Node> {
    let overlapd = std::env::current_exe()?.with_file_name("overlapd");
    let directory = base.join(name);
    let made = Command::new(&overlapd)
        .args([
            "init",
            "--organization",
            name,
            "--exchange-listen",
            "127.0.0.1:0",
        ])
        .args(["--api-listen", "127.0.0.1:0", "--dir"])
        .arg(&directory)
        .stdout(Stdio::null())
        .status()
        .with_context(|| {
            format!(
                "{}: build it with cargo build --release",
                overlapd.display()
            )
        })?;
    ensure!(made.success(), "overlapd init failed");
    let file = directory.join("overlapd.toml");
    let config = fs::read_to_string(&file)?;
    let backend = format!("backend = \"{}\"", arguments.backend);
    ensure!(
        config.contains("backend = \"auto\""),
        "{}: no backend setting",
        file.display()
    );
    let config = config.replace("backend = \"auto\"", &backend);
    fs::write(
        &file,
        config.replace("level = \"info\"", "level = \"warn\""),
    )?;

    let cpu = match (arguments.pin, name) {
        (Pin::Any, _) => None,
        (Pin::Two, "b") => Some("1"),
        _ => Some("0"),
    };
    let mut command = match cpu {
        Some(cpu) => {
            let mut command = Command::new("taskset");
            command.args(["-c", cpu]).arg(&overlapd);
            command
        }
        None => Command::new(&overlapd),
    };
    let mut process = command
        .args(["serve", "--dir"])
        .arg(&directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("standard output is piped")?);
    let mut ready = String::new();
    lines.read_line(&mut ready)?;
    ensure!(
        ready.starts_with("overlapd ready"),
        "overlapd said: {ready}"
    );
    let client = Client::connect(ClientConfig::from_node_dir(&directory)?).await?;
    Ok(Node {
        process,
        _lines: lines,
        client,
    })
}

/// One side's customers: by number, their e-mail's number and whether they are in the second stage.
struct Company {
    name: &'static str,
    customers: std::collections::BTreeMap<u32, (u32, bool)>,
    /// The next number that nobody has had.
    fresh: u32,
}

impl Company {
    /// The sets of `peers/sets.py`: the last half of a's customers are the first half of b's.
    fn new(name: &'static str, customers: u32) -> Self {
        let first = if name == "a" { 0 } else { customers / 2 };
        Self {
            name,
            customers: (first..first + customers)
                .map(|index| (index, (index, false)))
                .collect(),
            fresh: (1 << 30) + u32::from(name == "b"),
        }
    }

    /// Of the customers that change, as many each move to another stage, get another e-mail address, go, and come new.
    fn change(&mut self, churn: f64, day: u32) -> Result<()> {
        ensure!(churn > 0.0 && churn <= 0.2, "churn is between 0 and 0.2");
        let step = (1.0 / churn).round() as usize;
        // The two sides do not change the same ones, nor two days running.
        let start = if self.name == "a" { 0 } else { step / 2 };
        let start = (start + 37 * day as usize) % step;
        let chosen: Vec<u32> = self
            .customers
            .keys()
            .copied()
            .skip(start)
            .step_by(step)
            .collect();
        for (kind, index) in (0..4).cycle().zip(chosen) {
            match kind {
                0 => {
                    if let Some((_, moved)) = self.customers.get_mut(&index) {
                        *moved = !*moved;
                    }
                }
                1 => {
                    let email = self.take_fresh();
                    self.customers.insert(index, (email, false));
                }
                2 => {
                    self.customers.remove(&index);
                }
                _ => {
                    let index = self.take_fresh();
                    self.customers.insert(index, (index, false));
                }
            }
        }
        Ok(())
    }

    fn take_fresh(&mut self) -> u32 {
        self.fresh += 2;
        self.fresh
    }
}

/// How many customers the two share.
fn shared([a, b]: &[Company; 2]) -> u64 {
    let theirs: std::collections::HashSet<u32> =
        b.customers.values().map(|(email, _)| *email).collect();
    let both = a
        .customers
        .values()
        .filter(|(email, _)| theirs.contains(email));
    both.count() as u64
}

/// Makes the company's customers the node's.
async fn import(client: &Client, company: &Company) -> Result<()> {
    let mut csv = String::from("id,stage,email\n");
    for (index, (email, moved)) in &company.customers {
        let stage = if *moved { "Deal" } else { "Customer" };
        let address = format!("user{email:09}@customer-{}.example.com", email % 9973);
        csv.push_str(&format!("{}{index:09},{stage},{address}\n", company.name));
    }
    let import = Import {
        file_name: format!("{}.csv", company.name),
        format: ImportFormat::Csv,
        default_region: None,
        replace_all: true,
        size_bytes: Some(csv.len() as u64),
    };
    let content = std::io::Cursor::new(csv.into_bytes());
    client.import_customers(import, content, |_| ()).await?;
    Ok(())
}

fn policy() -> SharingPolicy {
    SharingPolicy {
        stages: ["Customer", "Deal"]
            .map(|stage| (stage.to_owned(), Tier::List))
            .into(),
        match_on: vec![KeyType::Email],
        min_count: 5,
        max_evaluations_per_epoch: 1 << 26,
        ..SharingPolicy::default()
    }
}

async fn await_sharing(client: &Client, partner: &str, state: SharingState) -> Result<()> {
    let reached = async {
        while client.sharing(partner).await?.state != state {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), reached)
        .await
        .context("the nodes did not agree in time")?
}

async fn follow(client: &Client, mut run: Run) -> Result<Run> {
    let id = run.id.clone();
    let mut updates = pin!(client.watch_run(&id));
    while !run.state.is_final() {
        run = updates
            .next()
            .await
            .context("the run cannot be watched")??;
    }
    if run.state != RunState::Done {
        bail!("the run ended as {}: {:?}", run.state.name(), run.failure);
    }
    Ok(run)
}

/// User and system time of the process so far.
fn cpu_s(node: &Node) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", node.process.id()))?;
    // The command's name, in parentheses, may hold spaces.
    let (_, fields) = stat
        .rsplit_once(") ")
        .context("/proc/PID/stat has a name")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // USER_HZ is 100 on every Linux architecture we know.
    Ok(ticks as f64 / 100.0)
}

/// The most memory the process has had.
fn peak_rss_bytes(node: &Node) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", node.process.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.context("VmHWM is in kB")?.trim().parse::<u64>()? * 1024)
}
