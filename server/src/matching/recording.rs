//! Recordings of runs, for an audit later: off by default, bounded, and gone with the permissions they were made under.
//!
//! A recording holds the frames as they passed (`overlap_crypto::recording`), in files of the owner's only. It has no secret
//! of this node, and of the partner's customers what the frames disclose: pseudonyms, stages and the permitted fields.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use overlap_crypto::{
    plan::Role,
    recording::{EntryHeader, EntryKind, HEADER_BYTES, MAGIC},
    wire,
};
use overlap_proto::exchange::v1::Frame;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    task::JoinHandle,
};

use super::{
    driver::{Connection, Reconnect, Rejoined, RunLink},
    spool::{disk, new_directory, new_file},
};
use crate::error::Error;

/// Frames that wait to be written, or to be handed on.
const FRAMES: usize = 4;
/// How long the last frames of a run may take to leave.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a recording's file name ends in.
const EXTENSION: &str = "frames";
/// What it ends in until the run is good, and for good if it never was.
const FAILED: &str = ".failed.frames";
/// Recordings of failed runs that are kept for each partner, the newest. They have a number of their own: a partner can make as
/// many as it likes, and must not be able to push out those of good runs.
const KEEP_FAILED: usize = 3;

/// How runs are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingRules {
    /// Bytes of one recording; what does not fit is left out, and the recording says so.
    pub max_bytes: u64,
    /// Recordings of good runs kept for each partner, the newest.
    pub keep: usize,
}

/// The directory of a partner's recordings.
#[must_use]
pub fn directory(node_directory: &Path, partnership_id: &str) -> PathBuf {
    node_directory.join("recordings").join(partnership_id)
}

/// The recording of a run.
#[must_use]
pub fn path(node_directory: &Path, partnership_id: &str, run_id: &str) -> PathBuf {
    directory(node_directory, partnership_id).join(format!("{run_id}.{EXTENSION}"))
}

/// Removes a partner's recordings: they are derived from its customers.
pub fn remove(node_directory: &Path, partnership_id: &str) {
    let directory = directory(node_directory, partnership_id);
    if let Err(error) = fs::remove_dir_all(&directory)
        && !is_gone(&error)
    {
        tracing::warn!(%error, path = %directory.display(), "recordings could not be removed");
    }
}

enum Entry {
    Connection([u8; 32]),
    Frame(Role, Frame),
}

/// Writes a run's frames to a file, over all its connections.
pub struct Recorder {
    /// Where the recording is until the run is good.
    unsettled: PathBuf,
    path: PathBuf,
    keep: usize,
    taps: Taps,
    writer: JoinHandle<()>,
}

/// What the tapped connections share.
#[derive(Clone)]
struct Taps {
    role: Role,
    line: Arc<AsyncMutex<Line>>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// Where entries go. Frames of a connection that another has replaced are neither recorded nor handed on: they would stand
/// behind the other's beginning.
struct Line {
    entries: Option<mpsc::Sender<Entry>>,
    connection: u64,
}

impl Recorder {
    /// Starts the recording of a run. Another attempt at a run replaces what the one before recorded.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn start(
        node_directory: &Path,
        partnership_id: &str,
        run_id: &str,
        initiator: bool,
        rules: RecordingRules,
    ) -> Result<Self, Error> {
        let folder = directory(node_directory, partnership_id);
        new_directory(&node_directory.join("recordings"))?;
        new_directory(&folder)?;
        let path = path(node_directory, partnership_id, run_id);
        let unsettled = path.with_extension(&FAILED[1..]);
        match fs::remove_file(&unsettled) {
            Err(error) if !is_gone(&error) => return Err(disk(&unsettled, &error)),
            _ => {}
        }
        let mut file = BufWriter::with_capacity(1 << 20, new_file(&unsettled)?);
        file.write_all(MAGIC)
            .map_err(|error| disk(&unsettled, &error))?;
        let (entries, mut incoming) = mpsc::channel(FRAMES);
        let name = unsettled.clone();
        let writer = tokio::task::spawn_blocking(move || {
            let mut left = rules.max_bytes.saturating_sub(MAGIC.len() as u64);
            let written = std::iter::from_fn(|| incoming.blocking_recv())
                .try_for_each(|entry| write(&mut file, &entry, &mut left))
                .and_then(|()| file.flush());
            if let Err(error) = written {
                tracing::warn!(%error, path = %name.display(), "a run is no longer recorded");
            }
        });
        let line = Line {
            entries: Some(entries),
            connection: 0,
        };
        let taps = Taps {
            role: if initiator {
                Role::Initiator
            } else {
                Role::Acceptor
            },
            line: Arc::new(AsyncMutex::new(line)),
            tasks: Arc::default(),
        };
        Ok(Self {
            unsettled,
            path,
            keep: rules.keep,
            taps,
            writer,
        })
    }

    /// A link whose frames are recorded on their way, and those of the connections after it.
    pub async fn tap(&self, link: RunLink) -> RunLink {
        let first = Connection {
            exporter: link.exporter,
            incoming: link.incoming,
            outgoing: link.outgoing,
            ended: None,
        };
        let first = self.taps.connection(first).await;
        RunLink {
            incoming: first.incoming,
            outgoing: first.outgoing,
            reconnect: self.taps.reconnect(link.reconnect),
            ..link
        }
    }

    /// The run is good: its recording takes its place among those of good runs. What is left of it comes yet.
    pub async fn keep(&self) {
        let (unsettled, path, keep) = (self.unsettled.clone(), self.path.clone(), self.keep);
        settled(move || {
            match fs::rename(&unsettled, &path) {
                // It went with the permissions.
                Err(error) if is_gone(&error) => return Ok(()),
                renamed => renamed.map_err(|error| disk(&unsettled, &error))?,
            }
            prune(&path, keep, true)
        })
        .await;
    }

    /// The run failed, and its link is dropped.
    pub async fn fail(self) {
        let unsettled = self.unsettled.clone();
        self.finish().await;
        settled(move || prune(&unsettled, KEEP_FAILED, false)).await;
    }

    /// Waits for what is left to be handed on and written, once the link is dropped.
    pub async fn finish(self) {
        let Self { taps, writer, .. } = self;
        let all = async {
            loop {
                let task = lock(&taps.tasks).pop();
                let Some(task) = task else { break };
                let _ = task.await;
            }
            taps.line.lock().await.entries = None;
            let _ = writer.await;
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("the end of a run's recording took too long");
        }
    }
}

async fn settled(work: impl FnOnce() -> Result<(), Error> + Send + 'static) {
    if let Err(error) = crate::storage::blocking(work).await {
        tracing::warn!(%error, "a run's recording could not be put away");
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

impl Taps {
    /// Records an entry, unless its connection was replaced. A recorder that cannot write any more hears nothing; the run
    /// goes on.
    async fn record(&self, connection: u64, entry: Entry) -> bool {
        let line = self.line.lock().await;
        if line.connection != connection {
            return false;
        }
        if let Some(entries) = &line.entries {
            let _ = entries.send(entry).await;
        }
        true
    }

    async fn connection(&self, connection: Connection) -> Connection {
        let Connection {
            exporter,
            incoming: mut arriving,
            outgoing: leaving,
            ended,
        } = connection;
        let number = {
            let mut line = self.line.lock().await;
            line.connection += 1;
            if let Some(entries) = &line.entries {
                let _ = entries.send(Entry::Connection(exporter)).await;
            }
            line.connection
        };
        let (to_run, incoming) = mpsc::channel(FRAMES);
        let (outgoing, mut from_run) = mpsc::channel::<Frame>(FRAMES);
        let taps = self.clone();
        let received = tokio::spawn(async move {
            loop {
                let frame = tokio::select! {
                    frame = arriving.recv() => frame,
                    () = to_run.closed() => None,
                };
                let Some(frame) = frame else { return };
                if let Ok(frame) = &frame
                    && !taps
                        .record(number, Entry::Frame(taps.role.peer(), frame.clone()))
                        .await
                {
                    return;
                }
                if to_run.send(frame).await.is_err() {
                    return;
                }
            }
        });
        let taps = self.clone();
        let sent = tokio::spawn(async move {
            loop {
                // A connection that takes nothing more is to show as such.
                let frame = tokio::select! {
                    frame = from_run.recv() => frame,
                    () = leaving.closed() => None,
                };
                let Some(frame) = frame else { return };
                if !taps
                    .record(number, Entry::Frame(taps.role, frame.clone()))
                    .await
                    || leaving.send(frame).await.is_err()
                {
                    return;
                }
            }
        });
        lock(&self.tasks).extend([received, sent]);
        Connection {
            exporter,
            incoming,
            outgoing,
            ended,
        }
    }

    fn reconnect(&self, reconnect: Reconnect) -> Reconnect {
        let taps = self.clone();
        match reconnect {
            Reconnect::Never => Reconnect::Never,
            Reconnect::Dial(mut dial) => Reconnect::Dial(Box::new(move || {
                let (taps, dialled) = (taps.clone(), dial());
                Box::pin(async move { Ok(taps.connection(dialled.await?).await) })
            })),
            Reconnect::Await(mut rejoined) => {
                let (to_run, awaited) = mpsc::channel(1);
                tokio::spawn(async move {
                    loop {
                        let next = tokio::select! {
                            next = rejoined.recv() => next,
                            () = to_run.closed() => None,
                        };
                        let next = match next {
                            None => return,
                            Some(Rejoined::Superseded) => Rejoined::Superseded,
                            Some(Rejoined::Connection(connection)) => {
                                Rejoined::Connection(taps.connection(connection).await)
                            }
                        };
                        if to_run.send(next).await.is_err() {
                            return;
                        }
                    }
                });
                Reconnect::Await(awaited)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes an entry, or once that there is no room for more.
fn write(file: &mut impl Write, entry: &Entry, left: &mut u64) -> std::io::Result<()> {
    let header = HEADER_BYTES as u64;
    // The entry that says so has to fit as well.
    if *left < header {
        return Ok(());
    }
    let (kind, body): (_, &[u8]) = match entry {
        Entry::Connection(exporter) => (EntryKind::Connection, exporter),
        Entry::Frame(sender, frame) => {
            let Ok(raw) =
                wire::Frame::from_raw(frame.flow, frame.kind, frame.sequence, &frame.payload)
            else {
                // The run ends for it; what it was is not for this file.
                return Ok(());
            };
            let kind = EntryKind::Frame {
                sender: *sender,
                flow: raw.flow,
                kind: raw.kind,
                sequence: raw.sequence,
            };
            (kind, raw.payload)
        }
    };
    let needed = header + body.len() as u64;
    let header = |kind, body: &[u8]| EntryHeader {
        kind,
        body_bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
    };
    if needed + HEADER_BYTES as u64 > *left {
        *left = 0;
        return file.write_all(&header(EntryKind::Stopped, &[]).encode());
    }
    *left -= needed;
    file.write_all(&header(kind, body).encode())?;
    file.write_all(body)
}

/// Removes the oldest recordings of good or failed runs up to the one at `path`; a newer one is of a run under way.
fn prune(path: &Path, keep: usize, good: bool) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let newest = match modified(path) {
        Err(error) if is_gone(&error) => return Ok(()),
        time => time.map_err(|error| disk(path, &error))?,
    };
    let mut recordings = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| disk(folder, &error))? {
        let entry = entry.map_err(|error| disk(folder, &error))?;
        if entry.file_name().to_string_lossy().ends_with(FAILED) == good {
            continue;
        }
        let path = entry.path();
        let time = modified(&path).map_err(|error| disk(&path, &error))?;
        if time <= newest {
            recordings.push((time, path));
        }
    }
    recordings.sort();
    let surplus = recordings.len().saturating_sub(keep);
    for (_, path) in recordings.drain(..surplus) {
        fs::remove_file(&path).map_err(|error| disk(&path, &error))?;
    }
    Ok(())
}
