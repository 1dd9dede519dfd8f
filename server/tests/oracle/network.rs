//! Connections in memory that somebody meddles with: frames are lost, cut off, late, twice, out of order or changed, and a
//! connection that breaks is followed by the next one as between two nodes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use overlap_proto::exchange::v1::Frame;
use overlap_server::{
    error::{Error, Reason},
    matching::{
        driver::{Connection, Reconnect, Rejoined, RunLink},
        failure::{Failure, abort},
    },
};
use tokio::sync::{mpsc, watch};

/// Who receives a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Acceptor,
    Initiator,
}

/// What becomes of a frame.
#[derive(Clone, Debug)]
pub enum Fate {
    Pass,
    /// Lost, with everything after it: the connection breaks.
    Cut,
    /// It arrives, and then the connection breaks.
    CutAfter,
    /// Lost, and the connection goes on: no honest network does this under TLS.
    Drop,
    Twice,
    Late(Duration),
    /// It arrives after the next one.
    Swap,
    /// Another frame in its place.
    Replace(Frame),
}

/// Decides what becomes of a frame, by who receives it and the connection's number.
pub type Meddler = Box<dyn FnMut(To, &Frame, u32) -> Fate + Send>;

struct Inner {
    run: u8,
    meddler: Mutex<Meddler>,
    connections: Mutex<u32>,
    /// Where the acceptor takes further connections, while it runs.
    rejoin: Mutex<Option<mpsc::Sender<Rejoined>>>,
    /// What the initiator is told instead, once the acceptor's node has lost the run.
    lost: Mutex<Option<Failure>>,
    /// Connections that reach the acceptor and never the initiator.
    half: Mutex<Vec<u32>>,
}

/// The way between two nodes during one run.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

impl Network {
    pub fn new(run: u8, meddler: impl FnMut(To, &Frame, u32) -> Fate + Send + 'static) -> Self {
        Self(Arc::new(Inner {
            run,
            meddler: Mutex::new(Box::new(meddler)),
            connections: Mutex::new(0),
            rejoin: Mutex::new(None),
            lost: Mutex::new(None),
            half: Mutex::new(Vec::new()),
        }))
    }

    /// These connections, counted from 0, are only made half: the initiator is told that it failed, the acceptor is not.
    pub fn half(self, connections: impl Into<Vec<u32>>) -> Self {
        *self.0.half.lock().unwrap() = connections.into();
        self
    }

    /// Connections made so far.
    pub fn connections(&self) -> u32 {
        *self.0.connections.lock().unwrap()
    }

    /// Both sides of the run.
    pub fn links(&self) -> (RunLink, RunLink) {
        let (initiator, acceptor) = self.connect();
        let (rejoin, rejoined) = mpsc::channel(4);
        *self.0.rejoin.lock().unwrap() = Some(rejoin);
        let network = self.clone();
        let dial = Reconnect::Dial(Box::new(move || {
            let network = network.clone();
            Box::pin(async move { network.dial() })
        }));
        (
            self.link(true, initiator, dial),
            self.link(false, acceptor, Reconnect::Await(rejoined)),
        )
    }

    /// The acceptor is gone: nobody takes further connections.
    pub fn lose_acceptor(&self) {
        *self.0.rejoin.lock().unwrap() = None;
    }

    /// The acceptor's node was restarted: it answers, and knows nothing of the run.
    pub fn restart_acceptor(&self) {
        self.lose_acceptor();
        *self.0.lost.lock().unwrap() = Some(Failure::told(abort::RUN_INTERRUPTED));
    }

    fn link(&self, initiator: bool, connection: Connection, reconnect: Reconnect) -> RunLink {
        RunLink {
            exporter: connection.exporter,
            initiator,
            run_id: [self.0.run; 16],
            incoming: connection.incoming,
            outgoing: connection.outgoing,
            reconnect,
        }
    }

    /// What the initiator's next connection comes to.
    fn dial(&self) -> Result<Connection, Failure> {
        if let Some(lost) = self.0.lost.lock().unwrap().clone() {
            return Err(lost);
        }
        let rejoin = self.0.rejoin.lock().unwrap().clone();
        let number = self.connections();
        let (initiator, acceptor) = self.connect();
        let taken =
            rejoin.is_some_and(|rejoin| rejoin.try_send(Rejoined::Connection(acceptor)).is_ok());
        let half = self.0.half.lock().unwrap().contains(&number);
        if taken && !half {
            Ok(initiator)
        } else {
            if half {
                // The acceptor's end stays open, and silent.
                std::mem::forget(initiator);
            }
            Err(Failure::network("nobody answers"))
        }
    }

    fn connect(&self) -> (Connection, Connection) {
        let number = {
            let mut connections = self.0.connections.lock().unwrap();
            *connections += 1;
            *connections - 1
        };
        let broken = Arc::new(watch::Sender::new(false));
        let (initiator_out, from_initiator) = mpsc::channel(4);
        let (acceptor_out, from_acceptor) = mpsc::channel(4);
        let at_acceptor = self.relay(To::Acceptor, number, from_initiator, &broken);
        let at_initiator = self.relay(To::Initiator, number, from_acceptor, &broken);
        let mut exporter = [self.0.run; 32];
        exporter[..4].copy_from_slice(&number.to_be_bytes());
        let connection = |incoming, outgoing| Connection {
            exporter,
            incoming,
            outgoing,
            ended: None,
        };
        (
            connection(at_initiator, initiator_out),
            connection(at_acceptor, acceptor_out),
        )
    }

    fn relay(
        &self,
        to: To,
        number: u32,
        mut frames: mpsc::Receiver<Frame>,
        broken: &Arc<watch::Sender<bool>>,
    ) -> mpsc::Receiver<Result<Frame, Error>> {
        let (sender, receiver) = mpsc::channel(4);
        let (network, broken) = (self.clone(), Arc::clone(broken));
        tokio::spawn(async move {
            let mut end = broken.subscribe();
            let carry = async {
                let mut behind = None;
                while let Some(frame) = frames.recv().await {
                    let fate = network.0.meddler.lock().unwrap()(to, &frame, number);
                    let mut out = Vec::new();
                    match fate {
                        Fate::Pass => out.push(frame),
                        Fate::Cut => return true,
                        Fate::CutAfter => {
                            // Whether it is still read is the reader's affair.
                            let _ = sender.send(Ok(frame)).await;
                            return true;
                        }
                        Fate::Drop => {}
                        Fate::Twice => out.extend([frame.clone(), frame]),
                        Fate::Late(by) => {
                            tokio::time::sleep(by).await;
                            out.push(frame);
                        }
                        Fate::Swap if behind.is_none() => {
                            behind = Some(frame);
                            continue;
                        }
                        Fate::Swap => out.push(frame),
                        Fate::Replace(other) => out.push(other),
                    }
                    out.extend(behind.take());
                    for frame in out {
                        if sender.send(Ok(frame)).await.is_err() {
                            return false;
                        }
                    }
                }
                false
            };
            let cut = tokio::select! {
                biased;
                cut = carry => cut,
                _ = end.wait_for(|broken| *broken) => true,
            };
            if cut {
                broken.send_replace(true);
                let error = Error::new(Reason::PartnerUnreachable, "the connection broke");
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }
}

/// Whether a frame belongs to the part of a run that can be resumed and moves it forward.
pub fn resumable(frame: &Frame) -> bool {
    matches!(frame.kind, 3 | 4 | 16..=31)
}
