//! Checks a recording of a run against both receipts, offline and without a secret (PROTOCOL.md §10.1).

use std::collections::{HashMap, HashSet};

use crate::{
    backend::{Backend, Encoded},
    context::{Context, OrganizationId, SessionId},
    fault::Fault,
    handshake::{Hello, Mode, confirmation},
    list::slice_commitment,
    plan::Role,
    receipt::SignedReceipt,
    recording::EntryKind,
    report::SignedReport,
    signature::verify,
    suite::derive_truncated,
    transcript::{Chain, payload_digest, resume_message},
    voprf::{self, Blinded, PublicKey, Statement, verify_key},
    wire::{CommitmentsBody, ConfirmBody, EvaluationBody, Flow, FrameKind, QueryBody, ResumeBody},
};

/// Problems that are told; whatever follows them is likely their consequence.
const MAX_PROBLEMS: usize = 20;

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// What is wrong, in the order of the recording; empty if everything is as the receipts say.
    pub problems: Vec<String>,
    /// Frames of both chains.
    pub frames: u64,
    /// Chunks whose proof verified.
    pub chunks: u64,
    /// Evaluated elements in those chunks.
    pub elements: u64,
    /// Slices that are what their evaluator had committed to.
    pub slices: u64,
    /// Reports whose signature verified.
    pub reports: u64,
    /// Whether the run matched changes only: that its removals, earlier claims and withdrawals are as the chains have them is
    /// checked, and not what they refer to, which earlier runs published.
    pub delta: bool,
}

/// An audit under way: entries go in one by one, in the order of the recording. It keeps the queries of the run in memory,
/// 32 bytes each.
pub struct Audit {
    backend: Backend,
    /// By role, as everything below that has two.
    keys: [[u8; 32]; 2],
    receipts: [SignedReceipt; 2],
    exporter: Option<[u8; 32]>,
    /// The hellos and their modes.
    hellos: [Option<(Vec<u8>, Mode)>; 2],
    session: Option<SessionId>,
    chains: Option<[Chain; 2]>,
    confirmed: [bool; 2],
    /// Frames and head of the chain before the receipt, once that has come.
    roots: [Option<(u64, [u8; 32])>; 2],
    voided: [Option<Voided>; 2],
    /// By the number of the list flow less one.
    lists: [ListRecord; 2],
    /// Who said that it ends the run.
    aborted: Option<Role>,
    problems: Vec<Problem>,
    /// All but the problems.
    report: AuditReport,
}

/// Something that is wrong.
struct Problem {
    text: String,
    /// The frame: its sender, and how many frames of that sender's chain came before it.
    frame: Option<(Role, u64)>,
}

impl Problem {
    /// Whether it is of a frame that `sender` sent after its first `frames`.
    fn is_of(&self, sender: Role, frames: u64) -> bool {
        self.frame
            .is_some_and(|(of, before)| of == sender && before >= frames)
    }
}

/// A side as it was when the other voided some of its frames. Until it goes on otherwise, the other may still say that it holds
/// them.
struct Voided {
    chain: Chain,
    root: Option<(u64, [u8; 32])>,
    /// Those of the void frames.
    problems: Vec<Problem>,
}

/// What is needed of one list flow.
#[derive(Default)]
struct ListRecord {
    queries: HashMap<u32, Vec<Encoded>>,
    commitments: Vec<[u8; 32]>,
    proven: HashSet<u32>,
    sliced: HashSet<u32>,
}

const ROLES: [Role; 2] = [Role::Initiator, Role::Acceptor];

const fn index(role: Role) -> usize {
    role.code() as usize
}

const fn name(role: Role) -> &'static str {
    match role {
        Role::Initiator => "initiator",
        Role::Acceptor => "acceptor",
    }
}

impl Audit {
    /// An audit of the run of two receipts, the initiator's first, whose signatures were verified with these organisation keys.
    #[must_use]
    pub fn new(backend: Backend, keys: [[u8; 32]; 2], receipts: [SignedReceipt; 2]) -> Self {
        Self {
            backend,
            keys,
            receipts,
            exporter: None,
            hellos: [None, None],
            session: None,
            chains: None,
            confirmed: [false; 2],
            roots: [None; 2],
            voided: [None, None],
            lists: Default::default(),
            aborted: None,
            problems: Vec::new(),
            report: AuditReport::default(),
        }
    }

    /// Takes the next entry. What comes after both receipts is no part of the run.
    pub fn entry(&mut self, kind: &EntryKind, body: &[u8]) {
        if ROLES.into_iter().all(|role| self.has_ended(role)) {
            return;
        }
        match *kind {
            EntryKind::Connection => match <[u8; 32]>::try_from(body) {
                Ok(exporter) => self.exporter = Some(exporter),
                Err(_) => self.problem("a connection's exporter is not 32 bytes".to_owned()),
            },
            EntryKind::Stopped => self.problem(
                "the recording stops early: its limit was reached or it could not be written"
                    .to_owned(),
            ),
            EntryKind::Frame {
                sender,
                flow,
                kind,
                sequence,
            } => {
                let before = self.chains.as_ref();
                let place = before.map(|chains| (sender, chains[index(sender)].frames()));
                if let Err(problem) = self.frame(sender, flow, kind, sequence, body) {
                    let (sender, kind, flow) = (name(sender), kind.name(), flow.name());
                    self.problem_at(
                        place,
                        format!("{sender}'s {kind} {sequence} of flow {flow}: {problem}"),
                    );
                }
            }
        }
    }

    /// Whether there is anything after this entry that is worth reading.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// What was found, once every entry is in.
    #[must_use]
    pub fn finish(mut self) -> AuditReport {
        for role in ROLES {
            let at = index(role);
            if self.hellos[at].is_none() {
                self.problem(format!("the {}'s hello is missing", name(role)));
            }
            if !self.confirmed[at] {
                self.problem(format!("the {}'s confirmation is missing", name(role)));
            }
            let Some((frames, head)) = self.roots[at] else {
                let aborted = self.aborted.map_or_else(String::new, |by| {
                    format!("; the {} aborted the run", name(by))
                });
                self.problem(format!("the {}'s receipt is missing{aborted}", name(role)));
                continue;
            };
            let stated = *self.receipts[at].receipt.side(role);
            self.report.frames += frames;
            if frames != stated.frames {
                self.problem(format!(
                    "the {} sent {} frames by the receipts and {frames} by the recording",
                    name(role),
                    stated.frames
                ));
            } else if head != stated.head {
                self.problem(format!(
                    "the {}'s transcript root is not that of the receipts",
                    name(role)
                ));
            }
        }
        let problems = self.problems.into_iter();
        self.report.problems = problems.map(|problem| problem.text).collect();
        self.report
    }

    fn problem(&mut self, text: String) {
        self.problem_at(None, text);
    }

    fn problem_at(&mut self, frame: Option<(Role, u64)>, text: String) {
        if !self.is_hopeless() {
            self.problems.push(Problem { text, frame });
        }
    }

    /// Whether a side has sent its receipt after all that the receipts state of it.
    fn has_ended(&self, role: Role) -> bool {
        let stated = self.receipts[index(role)].receipt.side(role);
        self.roots[index(role)] == Some((stated.frames, stated.head))
    }

    fn frame(
        &mut self,
        sender: Role,
        flow: Flow,
        kind: FrameKind,
        sequence: u64,
        payload: &[u8],
    ) -> Result<(), String> {
        match kind {
            // Outside the chain, and bind nobody: a resumption may be put off with ABORT, and a run that was aborted lacks a
            // receipt.
            FrameKind::Ack => return Ok(()),
            FrameKind::Abort => {
                self.aborted = Some(sender);
                return Ok(());
            }
            // Outside the numbering; it may void the other side's receipt.
            FrameKind::Resume => return self.resume(sender, payload),
            // The other side's receipt may be on its way still, but what this side says no longer matters.
            _ if self.has_ended(sender) => return Ok(()),
            FrameKind::Hello if sequence != 0 => return Err("number 0 was to come".to_owned()),
            FrameKind::Hello => return self.hello(sender, payload),
            _ => {}
        }
        let (Some(session), Some(chains)) = (self.session, self.chains.as_mut()) else {
            return Err("comes before both hellos".to_owned());
        };
        if self.roots[index(sender)].is_some() {
            return Err("comes after its sender's receipt".to_owned());
        }
        let chain = &mut chains[index(sender)];
        let root = (chain.frames(), chain.head());
        let expected = chain.next_sequence(flow);
        if sequence != expected {
            return Err(format!("number {expected} was to come"));
        }
        chain.absorb(flow, kind, sequence, &payload_digest(payload));
        // What the receipts state ends before them.
        if kind == FrameKind::Receipt {
            self.roots[index(sender)] = Some(root);
            return self.receipt(sender, payload);
        }
        let key = &self.keys[index(sender)];
        let named = |fault: Fault| fault.name().to_owned();
        match kind {
            FrameKind::Confirm => {
                let body = ConfirmBody::decode(payload).map_err(named)?;
                let message = confirmation(&session, sender);
                verify(key, &message, &body.signature).map_err(named)?;
                self.confirmed[index(sender)] = true;
            }
            FrameKind::Report => {
                let report = SignedReport::decode(payload).map_err(named)?;
                report.verify(&session, sender, key).map_err(named)?;
                self.report.reports += 1;
            }
            FrameKind::Query
            | FrameKind::Evaluation
            | FrameKind::Commitments
            | FrameKind::Slice => {
                self.list(session, sender, flow, kind, payload)?;
            }
            // Nothing more can be said of these without secrets; the chain covers them.
            _ => {}
        }
        Ok(())
    }

    /// The hellos. An initiator that asked for a delta run says hello again if the acceptor answers with that of a full one.
    fn hello(&mut self, sender: Role, payload: &[u8]) -> Result<(), String> {
        let hello = Hello::decode(payload).map_err(|fault| fault.name().to_owned())?;
        let modes = [0, 1].map(|at: usize| self.hellos[at].as_ref().map(|(_, mode)| *mode));
        let again = sender == Role::Initiator
            && modes == [Some(Mode::Delta), Some(Mode::Full)]
            && hello.mode == Mode::Full;
        let own = &mut self.hellos[index(sender)];
        if own.is_some() && !again {
            return Err("a second hello".to_owned());
        }
        *own = Some((payload.to_vec(), hello.mode));
        let [Some((initiator, wanted)), Some((acceptor, settled))] = &self.hellos else {
            return Ok(());
        };
        if wanted != settled {
            return if *wanted == Mode::Delta {
                Ok(())
            } else {
                Err("wants a delta run, and its partner a full one".to_owned())
            };
        }
        let hellos = [initiator.clone(), acceptor.clone()];
        let exporter = self.exporter.ok_or("comes before its connection")?;
        let session = SessionId(derive_truncated(
            "OVL1/sid",
            &[&hellos[0], &hellos[1], &exporter],
        ));
        self.report.delta = *settled == Mode::Delta;
        self.session = Some(session);
        self.chains = Some(ROLES.map(|role| Chain::new(&session, role)));
        if session != self.receipts[0].receipt.session {
            return Err("the session id of the hellos is not that of the receipts".to_owned());
        }
        for (role, payload) in ROLES.into_iter().zip(&hellos) {
            self.agreed_hello(role, payload)
                .map_err(|fault| fault.name().to_owned())?;
        }
        Ok(())
    }

    /// A hello that counts: what the receipts say of its sender is what it said.
    fn agreed_hello(&mut self, sender: Role, payload: &[u8]) -> Result<(), Fault> {
        let hello = Hello::decode(payload)?;
        let own = self.receipts[index(sender)].receipt;
        let stated = own.side(sender);
        let peer = OrganizationId::of_key(&self.keys[index(sender.peer())]);
        let (epoch, public_key) = hello
            .epoch_key
            .as_ref()
            .map_or((0, [0; 32]), |key| (key.epoch, key.public_key));
        let checks = [
            (hello.run == own.run, "run"),
            (hello.mode == own.mode, "mode"),
            (hello.sender == stated.organization, "sender"),
            (hello.receiver == peer, "receiver"),
            (hello.terms == own.terms, "terms hash"),
            (epoch == stated.epoch, "epoch"),
            (public_key == stated.public_key, "VOPRF key"),
            (hello.list_queries == stated.list_queries, "list queries"),
            (hello.count_queries == stated.count_queries, "count queries"),
            (hello.tags == stated.tags, "tags"),
            (
                hello.run_counter.checked_add(1) == Some(own.run_counter),
                "run counter",
            ),
            (hello.receipt_head == own.previous, "previous receipt"),
        ];
        for (same, what) in checks {
            if !same {
                self.problem(format!(
                    "{what} of the {}'s hello is not that of its receipt",
                    name(sender)
                ));
            }
        }
        if let Some(key) = &hello.epoch_key {
            let context = Context::new(&hello.sender, &hello.receiver, key.epoch, &key.public_key);
            PublicKey::decode(&key.public_key)
                .and_then(|public_key| verify_key(&public_key, &context, &key.proof))?;
        }
        Ok(())
    }

    /// The frames that the sender does not hold are void and come again, whatever they were.
    fn resume(&mut self, sender: Role, payload: &[u8]) -> Result<(), String> {
        let named = |fault: Fault| fault.name().to_owned();
        let body = ResumeBody::decode(payload).map_err(named)?;
        let (Some(session), Some(chains)) = (self.session, self.chains.as_mut()) else {
            return Err("comes before both hellos".to_owned());
        };
        let exporter = self.exporter.ok_or("comes before its connection")?;
        let message = resume_message(&body, sender, &exporter);
        verify(&self.keys[index(sender)], &message, &body.signature).map_err(named)?;
        let peer = sender.peer();
        let (chain, root) = (&mut chains[index(peer)], &mut self.roots[index(peer)]);
        let standing = chain.frames();
        let voided = self.voided[index(peer)]
            .take_if(|voided| voided.chain.head_after(standing) == Some(chain.head()));
        let known = voided.as_ref().map_or(&*chain, |voided| &voided.chain);
        let holds = session.0 == body.session
            && known.head_after(body.received) == Some(body.received_head);
        if !holds {
            if voided.is_some() {
                self.voided[index(peer)] = voided;
            }
            return Err("resumes where the recording never was".to_owned());
        }
        if let Some(voided) = voided {
            (*chain, *root) = (voided.chain, voided.root);
            let again = |problem: &Problem| problem.is_of(peer, standing);
            self.problems
                .extend(voided.problems.into_iter().filter(again));
        }
        let (problems, standing) = std::mem::take(&mut self.problems)
            .into_iter()
            .partition(|problem| problem.is_of(peer, body.received));
        self.problems = standing;
        self.voided[index(peer)] = Some(Voided {
            chain: chain.clone(),
            root: *root,
            problems,
        });
        chain.rewind(body.received);
        if root.is_some_and(|(frames, _)| body.received <= frames) {
            *root = None;
        }
        Ok(())
    }

    fn receipt(&self, sender: Role, payload: &[u8]) -> Result<(), String> {
        if SignedReceipt::decode(payload) == Ok(self.receipts[index(sender)]) {
            Ok(())
        } else {
            Err("is not the receipt to be audited".to_owned())
        }
    }

    /// Queries, evaluations and slices of a list flow.
    fn list(
        &mut self,
        session: SessionId,
        sender: Role,
        flow: Flow,
        kind: FrameKind,
        payload: &[u8],
    ) -> Result<(), String> {
        let named = |fault: Fault| fault.name().to_owned();
        let querier = match flow {
            Flow::InitiatorQueries => Role::Initiator,
            _ => Role::Acceptor,
        };
        if (kind == FrameKind::Query) != (sender == querier) {
            return Err("comes from the wrong side".to_owned());
        }
        let record = &mut self.lists[index(querier)];
        match kind {
            FrameKind::Query => {
                let query = QueryBody::decode(payload).map_err(named)?;
                // A chunk that comes again after a resumption takes the place of the one that was void.
                record.queries.insert(query.number, query.elements.to_vec());
            }
            FrameKind::Evaluation => {
                let evaluation = EvaluationBody::decode(payload).map_err(named)?;
                let blinded = record
                    .queries
                    .get(&evaluation.number)
                    .ok_or("answers a chunk that was not asked")?;
                let key = self.receipts[0].receipt.side(sender).public_key;
                check_chunk(self.backend, &key, blinded, &evaluation).map_err(named)?;
                let elements = blinded.len() as u64;
                // What comes again after a resumption counts once.
                if record.proven.insert(evaluation.number) {
                    self.report.chunks += 1;
                    self.report.elements += elements;
                }
            }
            FrameKind::Commitments => {
                let body = CommitmentsBody::decode(payload).map_err(named)?;
                record.commitments = body.hashes.to_vec();
            }
            _ => {
                let body = crate::wire::SliceBody::decode(payload).map_err(named)?;
                let committed = usize::try_from(body.index)
                    .ok()
                    .and_then(|slice| record.commitments.get(slice));
                let found = slice_commitment(&session, flow, body.index, payload);
                if committed != Some(&found) {
                    return Err(Fault::CommitmentMismatch.name().to_owned());
                }
                if record.sliced.insert(body.index) {
                    self.report.slices += 1;
                }
            }
        }
        Ok(())
    }
}

/// The proof that one chunk was evaluated with the epoch's key.
fn check_chunk(
    backend: Backend,
    public_key: &Encoded,
    blinded: &[Encoded],
    evaluation: &EvaluationBody<'_>,
) -> Result<(), Fault> {
    let public_key = PublicKey::decode(public_key)?;
    let statement = Statement {
        blinded,
        evaluated: evaluation.elements,
    };
    let asked = backend.decode(blinded)?;
    let answered = backend.decode(evaluation.elements)?;
    voprf::verify(
        backend,
        &public_key,
        Blinded::Decoded(&asked),
        &answered,
        statement,
        &evaluation.proof,
    )
}
