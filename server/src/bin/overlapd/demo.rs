//! `overlapd demo`: two full nodes on loopback that pair, match and show what each side sees.

mod report;
mod together;
mod year;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::SignedDuration;
use overlap_client::{
    Client, ClientConfig, CustomerFilter, EngagementFilter, Import, ImportFormat, Leaderboard,
    LeaderboardOrder, Matrix, Metric, PageRequest, ProgramFilter, ProgramPeriod, Record, Run,
    RunState, SharedCustomer, SharedFilter, Sharing, SharingPolicy, SharingState, StartRun, Tier,
    Timestamp,
    terminal::progress::{Meter, run_line},
};
use overlap_server::{
    clock::SystemClock,
    config::Log,
    demo::companies::{Side, customers_csv},
    node::{self, InitOptions},
    serve::{self, Running},
    telemetry,
};
use tempfile::TempDir;

use crate::Output;

/// How long the two nodes may take to agree on sharing permissions.
const AGREEMENT_DEADLINE: Duration = Duration::from_secs(30);

/// What the demonstration is told.
#[derive(Args)]
pub(crate) struct Demo {
    /// Customer file of company A (CSV, NDJSON) [default: a bundled sample]
    #[arg(long, value_name = "FILE")]
    a_customers: Option<PathBuf>,
    /// Customer file of company B (CSV, NDJSON) [default: a bundled sample]
    #[arg(long, value_name = "FILE")]
    b_customers: Option<PathBuf>,
    /// Sharing policy of company A [default: the sample's; with a file of your own, every stage is listed]
    #[arg(long, value_name = "FILE")]
    a_policy: Option<PathBuf>,
    /// Sharing policy of company B [default: the sample's; with a file of your own, every stage is listed]
    #[arg(long, value_name = "FILE")]
    b_policy: Option<PathBuf>,
    /// Where to make the two nodes' directories, A and B [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Keep both nodes up afterwards, and print commands to try
    #[arg(long)]
    serve: bool,
}

/// One of the two companies and its node.
struct Company {
    side: Side,
    directory: PathBuf,
    running: Running,
    client: Client,
}

/// What a company sees after the run.
struct View {
    organization: &'static str,
    partner: &'static str,
    directory: PathBuf,
    sharing: Sharing,
    customers: u64,
    matrix: Matrix,
    shared: Vec<SharedCustomer>,
    run: Run,
    /// The numbers of the year; none for customers that are not the sample's.
    numbers: Option<Numbers>,
}

/// What a company's partner program came to.
struct Numbers {
    records: u64,
    scorecard: Vec<Metric>,
    leaderboard: Leaderboard,
}

pub(crate) fn run(demo: Demo) -> anyhow::Result<ExitCode> {
    let log = Log {
        level: "warn".to_owned(),
        ..Log::default()
    };
    telemetry::start(&log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(show(demo))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(demo: Demo) -> anyhow::Result<()> {
    let (base, _temporary) = base_directory(demo.dir.as_deref())?;
    let a = Company::start(Side::A, &base).await?;
    let b = Company::start(Side::B, &base).await?;

    note(&format!(
        "two nodes: {} and {}",
        a.listening(),
        b.listening()
    ));
    let invite = a.client.create_invite(None, None).await?;
    b.client.accept_invite(&invite.invite, None).await?;
    note("paired by an invitation, certificates pinned on both sides");

    let a_customers = a.import(demo.a_customers.as_deref()).await?;
    let b_customers = b.import(demo.b_customers.as_deref()).await?;
    // The year belongs to the sample's customers.
    let now = Timestamp::now();
    let a_records = a.live_a_year(demo.a_customers.is_none(), now).await?;
    let b_records = b.live_a_year(demo.b_customers.is_none(), now).await?;
    let a_policy = a
        .policy(demo.a_policy.as_deref(), demo.a_customers.is_some())
        .await?;
    let b_policy = b
        .policy(demo.b_policy.as_deref(), demo.b_customers.is_some())
        .await?;
    a.client.set_policy(b.side.organization(), a_policy).await?;
    // The answer to A's proposal is B's own policy.
    b.await_sharing(a.side, SharingState::AwaitingMyDecision)
        .await?;
    b.client.set_policy(a.side.organization(), b_policy).await?;
    a.await_sharing(b.side, SharingState::Active).await?;
    b.await_sharing(a.side, SharingState::Active).await?;
    note("sharing permissions proposed by one side, answered by the other");

    let started = a
        .client
        .start_run(b.side.organization(), StartRun::default())
        .await?;
    let a_run = follow(&a.client, started).await?;
    let b_run = b.answered_run(a.side).await?;

    let mut a_view = a.view(b.side, a_customers, a_run).await?;
    let mut b_view = b.view(a.side, b_customers, b_run).await?;
    let policy = a_view.sharing.mine.as_ref();
    let credit = together::credit(&a, &b, policy, &a_view.shared).await?;
    let file = together::hand_over(&a, &b).await?;
    a_view.numbers = a.numbers(a_records, now).await?;
    b_view.numbers = b.numbers(b_records, now).await?;
    match demo.output {
        Output::Json => report::json(&a_view, &b_view, credit.as_ref(), &file)?,
        Output::Table => report::text(&a_view, &b_view, credit.as_ref(), &file)?,
    }
    if demo.serve {
        report::commands(&a_view, &b_view, credit.as_ref());
        tokio::signal::ctrl_c().await?;
    }
    a.running.shutdown().await;
    b.running.shutdown().await;
    Ok(())
}

/// The directory for both nodes; a temporary one goes when the second value is dropped.
fn base_directory(dir: Option<&Path>) -> anyhow::Result<(PathBuf, Option<TempDir>)> {
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("{}: cannot be made", dir.display()))?;
        return Ok((dir.to_owned(), None));
    }
    let temporary = tempfile::Builder::new().prefix("overlap-demo-").tempdir()?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

impl Company {
    async fn start(side: Side, base: &Path) -> anyhow::Result<Self> {
        let directory = base.join(match side {
            Side::A => "A",
            Side::B => "B",
        });
        let loopback = Some(([127, 0, 0, 1], 0).into());
        let options = InitOptions {
            organization: side.organization().to_owned(),
            exchange_listen: loopback,
            api_listen: loopback,
            ..InitOptions::default()
        };
        node::init(&directory, options, &SystemClock)?;
        let running = serve::start(&directory, Arc::new(SystemClock)).await?;
        let client = Client::connect(ClientConfig::from_node_dir(&directory)?).await?;
        Ok(Self {
            side,
            directory,
            running,
            client,
        })
    }

    /// The company's own files, beside its node's directory.
    fn files(&self) -> PathBuf {
        let mut name = self.directory.clone().into_os_string();
        name.push("-files");
        name.into()
    }

    fn listening(&self) -> String {
        format!(
            "{} on {}",
            self.side.organization(),
            self.running.exchange_addr
        )
    }

    /// Imports the file, or the sample; how many customers there are.
    async fn import(&self, file: Option<&Path>) -> anyhow::Result<u64> {
        let (file_name, format) = match file {
            Some(path) => (
                path.display().to_string(),
                ImportFormat::of_path(path).with_context(|| {
                    format!(
                        "{}: customer files end in .csv, .ndjson, .jsonl or .parquet",
                        path.display()
                    )
                })?,
            ),
            None => (
                format!("sample of {}", self.side.organization()),
                ImportFormat::Csv,
            ),
        };
        let import = Import {
            file_name,
            format,
            default_region: None,
            replace_all: false,
            size_bytes: None,
        };
        match file {
            Some(path) => {
                let content = tokio::fs::File::open(path)
                    .await
                    .with_context(|| format!("{}: cannot be read", path.display()))?;
                self.client
                    .import_customers(import, content, |_| ())
                    .await?
            }
            None => {
                let content = io::Cursor::new(customers_csv(self.side).into_bytes());
                self.client
                    .import_customers(import, content, |_| ())
                    .await?
            }
        };
        let first = PageRequest {
            size: 1,
            ..PageRequest::default()
        };
        let customers = self
            .client
            .list_customers(&CustomerFilter::default(), first)
            .await?
            .total;
        note(&format!(
            "{}: {customers} customers imported",
            self.side.organization()
        ));
        Ok(customers)
    }

    /// Loads the sample's year up to now; how many records that is, none for other customers.
    async fn live_a_year(&self, sample: bool, now: Timestamp) -> anyhow::Result<Option<u64>> {
        if !sample {
            return Ok(None);
        }
        let records = year::records(self.side, now)?;
        let count = records.len() as u64;
        let records = stream::iter(records.into_iter().map(Record));
        self.client.ingest_records(records).await?;
        note(&format!(
            "{}: {count} records of a year's deals, lifecycle changes and portal visits",
            self.side.organization()
        ));
        Ok(Some(count))
    }

    /// The scorecard of the year and the leaderboard of its last 30 days, where there was a year.
    async fn numbers(
        &self,
        records: Option<u64>,
        now: Timestamp,
    ) -> anyhow::Result<Option<Numbers>> {
        let Some(records) = records else {
            return Ok(None);
        };
        let year = ProgramFilter {
            period: ProgramPeriod::Interval {
                start: now - SignedDuration::from_hours(24 * 365),
                end: now,
            },
            ..ProgramFilter::default()
        };
        Ok(Some(Numbers {
            records,
            scorecard: self.client.scorecard(&year, None, None).await?,
            leaderboard: self
                .client
                .list_leaderboard(
                    &EngagementFilter::default(),
                    LeaderboardOrder::default(),
                    PageRequest::default(),
                )
                .await?,
        }))
    }

    /// The policy in the file; the sample's; or, for customers that are not the sample's, one that lists every stage.
    async fn policy(
        &self,
        file: Option<&Path>,
        own_customers: bool,
    ) -> anyhow::Result<SharingPolicy> {
        let (text, name) = match file {
            Some(path) => (
                std::fs::read_to_string(path)
                    .with_context(|| format!("{}: cannot be read", path.display()))?,
                path.display().to_string(),
            ),
            None => (self.side.policy().to_owned(), "sample policy".to_owned()),
        };
        let mut policy = SharingPolicy::from(overlap_proto::policy_file::parse(&text, &name)?);
        if file.is_none() && own_customers {
            let stages = self.client.stages().await?;
            policy.stages = stages
                .into_iter()
                .map(|stage| (stage.id, Tier::List))
                .collect();
            policy.shared_fields.clear();
            policy.label_field_bytes = 0;
        }
        Ok(policy)
    }

    async fn await_sharing(&self, partner: Side, state: SharingState) -> anyhow::Result<()> {
        let reached = async {
            while self.client.sharing(partner.organization()).await?.state != state {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(AGREEMENT_DEADLINE, reached)
            .await
            .with_context(|| {
                format!(
                    "{} did not learn of its partner's policy in time",
                    self.side.organization()
                )
            })?
    }

    /// The run that the partner started, once it has ended here too.
    async fn answered_run(&self, partner: Side) -> anyhow::Result<Run> {
        let run = pin!(self.client.runs(partner.organization()))
            .try_next()
            .await?
            .context("the partner's run left no trace")?;
        follow(&self.client, run).await
    }

    async fn view(&self, partner: Side, customers: u64, run: Run) -> anyhow::Result<View> {
        let name = partner.organization();
        Ok(View {
            organization: self.side.organization(),
            partner: name,
            directory: self.directory.clone(),
            sharing: self.client.sharing(name).await?,
            customers,
            matrix: self.client.matrix(name).await?,
            shared: self
                .client
                .shared_customers(name, SharedFilter::default())
                .try_collect()
                .await?,
            run,
            numbers: None,
        })
    }
}

/// Watches a run to its end, with one line of progress on a terminal.
async fn follow(client: &Client, mut run: Run) -> anyhow::Result<Run> {
    let mut meter = Meter::new();
    let id = run.id.clone();
    let mut updates = pin!(client.watch_run(&id));
    while !run.state.is_final() {
        meter.show(&run_line(&run));
        run = updates
            .next()
            .await
            .context("the run cannot be watched any more")??;
    }
    meter.clear();
    if run.state != RunState::Done {
        match &run.failure {
            Some(failure) => bail!("run {id} failed: {} [{}]", failure.message, failure.reason),
            None => bail!("run {id} ended as {}", run.state.name()),
        }
    }
    Ok(run)
}

/// A line about what is going on; the result alone goes to standard output.
fn note(text: &str) {
    // Nobody may be listening, which is no reason to stop.
    let _ = writeln!(io::stderr(), "{text}");
}
