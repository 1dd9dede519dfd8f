//! The line to the partner: it moves frames over a connection, and goes on over another if one breaks (PROTOCOL.md §6.4).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use overlap_crypto::{
    fault::Fault,
    handshake::Session,
    signature::Signer,
    transcript,
    wire::{AckBody, FrameKind, ResumeBody},
};
use overlap_proto::exchange::v1::Frame;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Run, RunLink, lock,
    wire::{Incoming, Outgoing, Received, Senders, aborted, closed, send_abort, unnumbered},
};
use crate::{
    error::{Error, Reason},
    matching::failure::{Failure, Side},
};

/// How long a connection that takes no more frames may still say why.
const REASON_PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of a good run waits for the partner to end its direction.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);
/// How long the partner may take to answer a resumption.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// Waits between two attempts to connect: the first, and the longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// How long and how often a run looks for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeLimits {
    /// Longest time without a connection.
    pub patience: Duration,
    /// Most connections after the first.
    pub reconnections: u32,
}

impl Default for ResumeLimits {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(120),
            reconnections: 16,
        }
    }
}

/// A connection that carries a run further.
pub struct Connection {
    /// Its TLS exporter, the same on both sides.
    pub exporter: [u8; 32],
    /// The partner's frames; the end, or one error and then the end.
    pub incoming: mpsc::Receiver<Result<Frame, Error>>,
    /// Frames for the partner.
    pub outgoing: mpsc::Sender<Frame>,
    /// Dropped with the connection, for whoever waits for its end.
    pub ended: Option<oneshot::Sender<()>>,
}

/// What the partner brings to a run that it opened.
pub enum Rejoined {
    /// Another connection.
    Connection(Connection),
    /// Another run: it has given this one up.
    Superseded,
}

/// Opens a connection: one attempt. A failure of the network is worth another attempt, any other ends the run.
pub type Dial = Box<dyn FnMut() -> BoxFuture<'static, Result<Connection, Failure>> + Send>;

/// Where the next connection of a run comes from.
pub enum Reconnect {
    /// Nowhere: a connection that breaks ends the run.
    Never,
    /// This side opened the run, and opens the next connection as well.
    Dial(Dial),
    /// The partner opens it.
    Await(mpsc::Receiver<Rejoined>),
}

impl Reconnect {
    /// What the partner brings, even while the present connection seems to live.
    pub(super) async fn rejoined(&mut self) -> Rejoined {
        if let Self::Await(rejoined) = self
            && let Some(rejoined) = rejoined.recv().await
        {
            return rejoined;
        }
        std::future::pending().await
    }

    /// The next connection; the caller sets a deadline.
    async fn next(&mut self) -> Result<Connection, Failure> {
        let Self::Dial(dial) = self else {
            return match self.rejoined().await {
                Rejoined::Connection(connection) => Ok(connection),
                Rejoined::Superseded => Err(superseded()),
            };
        };
        persist(dial).await
    }
}

/// Tries until it succeeds or fails for another reason than the network; the caller sets a deadline.
pub(crate) async fn persist<T, F: Future<Output = Result<T, Failure>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut backoff = FIRST_BACKOFF;
    loop {
        match attempt().await {
            Err(failure) if failure.side == Side::Network => {
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
            outcome => return outcome,
        }
    }
}

/// Resolves when what the partner brings during the handshake ends the run. "A broken connection may be replaced, except during
/// the handshake": a partner that has another connection is past it, so this side will be at once, or never.
pub(super) async fn outrun(reconnect: &mut Reconnect, next: &mut Option<Connection>) -> Failure {
    match reconnect.rejoined().await {
        Rejoined::Connection(connection) => *next = Some(connection),
        Rejoined::Superseded => return superseded(),
    }
    tokio::time::sleep(CLOSING_PATIENCE).await;
    closed()
}

/// The partner opened another run in place of this one.
pub(super) fn superseded() -> Failure {
    Failure {
        error: Error::new(
            Reason::RunInterrupted,
            "the partner's node gave this run up and opened another",
        ),
        side: Side::Partner,
        abort: None,
    }
}

/// The way to the partner at present, for what has to be said at the end.
#[derive(Default)]
pub(super) struct Way(Mutex<Option<mpsc::Sender<Frame>>>);

impl Way {
    pub(super) fn set(&self, frames: Option<mpsc::Sender<Frame>>) {
        *lock(&self.0) = frames;
    }

    /// Tells the partner that the run is over, if it can be reached.
    pub(super) async fn abort(&self, code: u16) {
        let frames = lock(&self.0).take();
        if let Some(frames) = frames {
            send_abort(&frames, code).await;
        }
    }
}

/// The line of a run after its handshake.
pub(super) struct Line {
    session: Session,
    signer: Arc<dyn Signer + Send + Sync>,
    limits: ResumeLimits,
    idle: Duration,
    link: RunLink,
    way: Arc<Way>,
    outgoing: Arc<Outgoing>,
    received: Arc<Received>,
    senders: Senders,
    /// A frame that has arrived and is not admitted.
    arrived: Option<Frame>,
    /// A frame that was received and has not reached its inbox.
    undelivered: Option<(usize, Incoming)>,
    ended: Option<oneshot::Sender<()>>,
    reconnections: u32,
}

/// How moving frames over a connection ends.
enum Ended {
    /// This side is done, and so is the partner with what it was sent.
    Well,
    /// The connection is of no use any more.
    Lost(Failure),
    /// The run is over.
    Over(Failure),
    /// The partner brought something newer.
    Rejoined(Rejoined),
}

impl Line {
    pub(super) fn new(
        run: &Run,
        session: Session,
        link: RunLink,
        way: Arc<Way>,
        outgoing: Arc<Outgoing>,
        received: Arc<Received>,
        senders: Senders,
    ) -> Self {
        Self {
            session,
            signer: Arc::clone(&run.parties.signer),
            limits: run.settings.resume,
            idle: Duration::from_secs(run.settings.idle_s),
            link,
            way,
            outgoing,
            received,
            senders,
            arrived: None,
            undelivered: None,
            ended: None,
            reconnections: 0,
        }
    }

    /// Moves frames until the run is over or [`Outgoing::close`] was called and the partner holds everything; over `newer`, if
    /// the partner has brought another connection already.
    pub(super) async fn run(mut self, mut newer: Option<Connection>) -> Result<(), Failure> {
        let mut reconnect = std::mem::replace(&mut self.link.reconnect, Reconnect::Never);
        loop {
            let ended = match newer.take() {
                Some(connection) => Ended::Rejoined(Rejoined::Connection(connection)),
                None => self.converse(&mut reconnect).await,
            };
            let (lost, next) = match ended {
                Ended::Well => {
                    self.end().await;
                    return Ok(());
                }
                Ended::Over(failure) => return Err(failure),
                Ended::Lost(failure) => (failure, None),
                Ended::Rejoined(Rejoined::Superseded) => return Err(superseded()),
                Ended::Rejoined(Rejoined::Connection(connection)) => (closed(), Some(connection)),
            };
            if let Some(failure) = self.drain().await {
                return Err(failure);
            }
            if self.outgoing.is_settled() && self.received.is_settled() {
                // Each side holds all of the other's frames: no connection is needed any more.
                while !self.outgoing.is_done() {
                    self.outgoing.due.notified().await;
                }
                return Ok(());
            }
            if matches!(reconnect, Reconnect::Never) || self.received.is_counting() {
                return Err(lost);
            }
            self.resume(next, &mut reconnect).await?;
        }
    }

    /// Moves frames over the present connection.
    async fn converse(&mut self, reconnect: &mut Reconnect) -> Ended {
        let Self {
            link,
            arrived,
            undelivered,
            senders,
            outgoing,
            received,
            idle,
            ..
        } = self;
        let reading = read(
            &mut link.incoming,
            (arrived, undelivered),
            senders,
            outgoing,
            received,
            *idle,
        );
        let writing = write(&link.outgoing, outgoing, received, *idle);
        tokio::pin!(reading);
        tokio::select! {
            biased;
            rejoined = reconnect.rejoined() => Ended::Rejoined(rejoined),
            ended = &mut reading => ended,
            ended = writing => match ended {
                // The partner may have said why it takes nothing more.
                Ended::Lost(failure) => timeout(REASON_PATIENCE, reading)
                    .await
                    .unwrap_or(Ended::Lost(failure)),
                ended => ended,
            },
        }
    }

    /// Takes what the last connection has delivered, so that each connection carries the run further.
    async fn drain(&mut self) -> Option<Failure> {
        self.link.incoming.close();
        let ended = read(
            &mut self.link.incoming,
            (&mut self.arrived, &mut self.undelivered),
            &self.senders,
            &self.outgoing,
            &self.received,
            self.idle,
        )
        .await;
        match ended {
            Ended::Over(failure) => Some(failure),
            _ => None,
        }
    }

    /// Ends this side's direction and lets the partner end its own.
    async fn end(&mut self) {
        self.way.set(None);
        let (nowhere, _) = mpsc::channel(1);
        self.link.outgoing = nowhere;
        let ending = async { while let Some(Ok(_)) = self.link.incoming.recv().await {} };
        let _ = timeout(CLOSING_PATIENCE, ending).await;
    }

    /// Drops the connection.
    fn hang_up(&mut self) {
        self.way.set(None);
        let (nowhere, _) = mpsc::channel(1);
        let (_, nothing) = mpsc::channel(1);
        (self.link.outgoing, self.link.incoming) = (nowhere, nothing);
        self.ended = None;
    }

    /// Finds another connection and agrees with the partner where to go on.
    async fn resume(
        &mut self,
        mut next: Option<Connection>,
        reconnect: &mut Reconnect,
    ) -> Result<(), Failure> {
        let give_up_at = Instant::now() + self.limits.patience;
        loop {
            self.hang_up();
            let connection = match next.take() {
                Some(connection) => connection,
                None => {
                    let awaits = matches!(reconnect, Reconnect::Await(_));
                    tokio::select! {
                        biased;
                        next = timeout_at(give_up_at, reconnect.next()) => match next {
                            Ok(connection) => connection?,
                            Err(_) => return Err(self.not_restored()),
                        },
                        // Whoever opens connections is there as well, or will be told that this side is.
                        () = counting(&self.received, &self.outgoing), if awaits => return Err(closed()),
                    }
                }
            };
            if self.reconnections == self.limits.reconnections {
                return Err(Failure::network(format!(
                    "the connection to the partner's node broke after it was restored {} times",
                    self.reconnections
                )));
            }
            self.reconnections += 1;
            self.way.set(Some(connection.outgoing.clone()));
            self.link.exporter = connection.exporter;
            self.link.incoming = connection.incoming;
            self.link.outgoing = connection.outgoing;
            self.ended = connection.ended;
            let agreed = tokio::select! {
                biased;
                rejoined = reconnect.rejoined() => Ended::Rejoined(rejoined),
                agreed = timeout(ANSWER_PATIENCE, self.agree()) => match agreed {
                    Ok(Ok(())) => {
                        tracing::info!(
                            run = hex::encode(self.link.run_id),
                            reconnections = self.reconnections,
                            "a run goes on over another connection"
                        );
                        return Ok(());
                    }
                    Ok(Err(ended)) => ended,
                    Err(_) => Ended::Lost(closed()),
                },
            };
            match agreed {
                Ended::Over(failure) => return Err(failure),
                Ended::Rejoined(Rejoined::Superseded) => return Err(superseded()),
                Ended::Rejoined(Rejoined::Connection(connection)) => next = Some(connection),
                Ended::Lost(_) | Ended::Well if Instant::now() >= give_up_at => {
                    return Err(self.not_restored());
                }
                // A partner that takes connections and drops them is not to be called in a tight loop.
                Ended::Lost(_) | Ended::Well => tokio::time::sleep(FIRST_BACKOFF).await,
            }
        }
    }

    /// What ends a run that found no other connection in time.
    fn not_restored(&self) -> Failure {
        Failure {
            error: Error::new(
                Reason::DeadlineExceeded,
                format!(
                    "the connection to the partner's node broke and could not be restored within {} s",
                    self.limits.patience.as_secs()
                ),
            ),
            side: Side::Network,
            abort: None,
        }
    }

    /// Sends RESUME, takes the partner's, and goes back to what the partner holds.
    async fn agree(&mut self) -> Result<(), Ended> {
        let (outbound, inbound) = (self.outgoing.chain(), self.received.full_chain());
        let exporter = self.link.exporter;
        let body = transcript::resume(
            &self.session,
            &exporter,
            &outbound,
            &inbound,
            self.signer.as_ref(),
        );
        let frame = unnumbered(FrameKind::Resume, body.encode());
        // A connection that takes nothing may still say why.
        let _ = self.link.outgoing.send(frame).await;
        let frame = match self.link.incoming.recv().await {
            None => return Err(Ended::Lost(closed())),
            Some(Err(error)) => return Err(of_link(error)),
            Some(Ok(frame)) => frame,
        };
        let over = |fault: Fault| Ended::Over(fault.into());
        if frame.kind == u32::from(FrameKind::Abort.code()) {
            let failure = aborted(&frame.payload);
            // It has not noticed yet that the last connection broke.
            return Err(if failure.error.reason() == Reason::RunUnderWay {
                Ended::Lost(failure)
            } else {
                Ended::Over(failure)
            });
        }
        if frame.kind != u32::from(FrameKind::Resume.code()) || frame.flow != 0 {
            return Err(over(Fault::UnexpectedFrame));
        }
        if frame.sequence != 0 {
            return Err(over(Fault::OutOfOrder));
        }
        let body = ResumeBody::decode(&frame.payload).map_err(over)?;
        let held = transcript::admit_resume(&self.session, &exporter, &outbound, &inbound, &body)
            .map_err(over)?;
        self.outgoing.rewind(held).map_err(over)?;
        self.received.acknowledged();
        Ok(())
    }
}

/// Resolves when the count flow begins, in which a connection cannot be replaced: this side may come to it without one.
async fn counting(received: &Received, outgoing: &Outgoing) {
    while !received.is_counting() {
        outgoing.due.notified().await;
    }
}

/// An error of the link: a connection that broke is lost, what the partner refused is over.
fn of_link(error: Error) -> Ended {
    let failure = Failure::link(error);
    if failure.side == Side::Network {
        Ended::Lost(failure)
    } else {
        Ended::Over(failure)
    }
}

/// Sorts the partner's frames by flow.
async fn read(
    incoming: &mut mpsc::Receiver<Result<Frame, Error>>,
    (arrived, undelivered): (&mut Option<Frame>, &mut Option<(usize, Incoming)>),
    senders: &Senders,
    outgoing: &Outgoing,
    received: &Received,
    idle: Duration,
) -> Ended {
    loop {
        // A frame counts as received once it is admitted, so it must not be lost if this is dropped while the inbox is full.
        if let Some((flow, _)) = undelivered {
            // The flow is over for whoever dropped its inbox: nothing may come any more.
            let Ok(permit) = senders[*flow].reserve().await else {
                return Ended::Over(Fault::UnexpectedFrame.into());
            };
            if let Some((_, frame)) = undelivered.take() {
                permit.send(frame);
            }
        }
        let next = match arrived.take() {
            Some(frame) => Ok(Some(Ok(frame))),
            None => timeout(idle, incoming.recv()).await,
        };
        let frame = match next {
            Err(_) => return Ended::Lost(Failure::deadline("a frame", idle.as_secs())),
            Ok(None) => return Ended::Lost(closed()),
            Ok(Some(Err(error))) => return of_link(error),
            Ok(Some(Ok(frame))) => frame,
        };
        if frame.kind == u32::from(FrameKind::Abort.code()) {
            return Ended::Over(aborted(&frame.payload));
        }
        if frame.kind == u32::from(FrameKind::Ack.code()) {
            if let Err(fault) = acknowledged(outgoing, &frame) {
                return Ended::Over(fault.into());
            }
            continue;
        }
        // Kept until it is admitted: hashing it may take longer than its connection lasts.
        *arrived = Some(frame.clone());
        let admitted = received.admit(frame).await;
        *arrived = None;
        match admitted {
            Ok(admitted) => *undelivered = Some(admitted),
            Err(failure) => return Ended::Over(failure),
        }
        if received.wants_ack() {
            outgoing.due.notify_one();
        }
    }
}

fn acknowledged(outgoing: &Outgoing, frame: &Frame) -> Result<(), Fault> {
    if frame.flow != 0 {
        return Err(Fault::WrongFlow);
    }
    if frame.sequence != 0 {
        return Err(Fault::OutOfOrder);
    }
    outgoing.acknowledged(AckBody::decode(&frame.payload)?.received)
}

/// Writes what is due: acknowledgements first, then frames in their order. An acknowledgement after a quarter of the idle time
/// tells the partner that this side is there, however long it computes.
async fn write(
    frames: &mpsc::Sender<Frame>,
    outgoing: &Outgoing,
    received: &Received,
    idle: Duration,
) -> Ended {
    let beat = idle / 4;
    let mut wrote_at = Instant::now();
    let mut progress = (None, Instant::now());
    loop {
        let ack_at = received
            .unacknowledged_since()
            .map_or(wrote_at, |since| since.min(wrote_at))
            + beat;
        if Instant::now() >= ack_at {
            received.want_ack();
        }
        let outstanding = outgoing.outstanding();
        if outstanding.is_none() || outstanding != progress.0 {
            progress = (outstanding, Instant::now());
        } else if progress.1.elapsed() >= idle {
            return Ended::Lost(Failure::deadline("an acknowledgement", idle.as_secs()));
        }
        if !received.wants_ack() && !outgoing.is_due() {
            if outgoing.is_done() {
                return Ended::Well;
            }
            tokio::select! {
                biased;
                () = outgoing.due.notified() => {}
                () = sleep_until(ack_at) => {}
                () = frames.closed() => return Ended::Lost(closed()),
            }
            continue;
        }
        let permit = match timeout(idle, frames.reserve()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Ended::Lost(closed()),
            Err(_) => return Ended::Lost(Failure::deadline("taking a frame", idle.as_secs())),
        };
        if let Some(frame) = received.take_ack().or_else(|| outgoing.take_due()) {
            permit.send(frame);
            wrote_at = Instant::now();
        }
    }
}
