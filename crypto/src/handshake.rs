//! Hellos, the session they make, and its confirmation by both organisation keys (PROTOCOL.md §5).

mod hello;

pub use hello::{EpochKey, Hello, ListQuerier, MAX_HELLO_BYTES, Mode};

use subtle::ConstantTimeEq;

use crate::{
    backend::Encoded,
    context::{Context, OrganizationId, RunId, SessionId},
    fault::{Error, Fault, Misuse},
    list::ListFlow,
    plan::{Plan, Role},
    signature::{Signer, verify},
    suite::derive_truncated,
    terms::{SideTerms, Terms, Tier},
    voprf::{PublicKey, verify_key},
    wire::{ConfirmBody, Flow},
};

/// What this side knows about the peer from pairing and earlier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// The pinned Ed25519 organisation key.
    pub organization_key: [u8; 32],
    /// The highest epoch of the peer's that this side has seen, and its VOPRF key.
    pub highest_epoch: Option<(u64, Encoded)>,
}

/// This side's hello is on its way.
#[derive(Clone, Debug)]
pub struct Handshake {
    role: Role,
    own: Hello,
    payload: Vec<u8>,
}

impl Handshake {
    /// Starts with this side's hello. The acceptor writes its hello after it has decoded the initiator's.
    #[must_use]
    pub fn new(role: Role, own: Hello) -> Self {
        let payload = own.encode();
        Self { role, own, payload }
    }

    /// The body of the HELLO frame.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Takes the peer's hello. `exporter` is the TLS exporter of the connection that both hellos went through.
    ///
    /// # Errors
    /// Every fault of [`Hello::decode`]; [`Fault::WrongRun`], [`Fault::WrongOrganization`], [`Fault::TermsDiffer`],
    /// [`Fault::FullRunRequired`], [`Fault::RolesDiffer`], [`Fault::WrongCount`], [`Fault::EvaluatorMissing`],
    /// [`Fault::EpochRegression`], [`Fault::KeyChanged`], [`Fault::NonCanonicalElement`], [`Fault::IdentityElement`] and
    /// [`Fault::KeyProofInvalid`].
    pub fn receive(
        self,
        payload: &[u8],
        peer_state: &PeerState,
        terms: &Terms,
        exporter: &[u8; 32],
    ) -> Result<Confirming, Error> {
        let peer = Hello::decode(payload)?;
        let own = self.own;
        if peer.run != own.run {
            return Err(Fault::WrongRun.into());
        }
        if peer.sender != OrganizationId::of_key(&peer_state.organization_key)
            || peer.sender != own.receiver
            || peer.receiver != own.sender
        {
            return Err(Fault::WrongOrganization.into());
        }
        if own.terms != terms.hash() {
            return Err(Misuse::Terms("the hello carries the hash of other terms").into());
        }
        if peer.terms != own.terms {
            return Err(Fault::TermsDiffer.into());
        }
        if peer.mode != own.mode {
            return Err(Fault::FullRunRequired.into());
        }
        let missing = Misuse::Terms("an organisation is no side of the terms");
        let own_terms = terms.side(&own.sender).ok_or(missing)?;
        let peer_terms = terms.side(&peer.sender).ok_or(missing)?;
        check_sizes(&peer, peer_terms)?;
        let list_querier = list_querier(self.role, &own, &peer)?;
        let initiator = match self.role {
            Role::Initiator => &own,
            Role::Acceptor => &peer,
        };
        let mut plan = Plan::new(terms, &initiator.sender, list_querier)?;
        // The count flow is "never a delta".
        plan.count &= own.mode == Mode::Full;
        let peer_key = match &peer.epoch_key {
            Some(key) => Some(check_epoch_key(key, &peer, peer_state)?),
            None if plan.queries(self.role).is_some() => {
                return Err(Fault::EvaluatorMissing.into());
            }
            None => None,
        };
        let own_key = match &own.epoch_key {
            Some(key) => Some((
                PublicKey::decode(&key.public_key)?,
                Context::new(&own.sender, &own.receiver, key.epoch, &key.public_key),
            )),
            None if plan.queries(self.role.peer()).is_some() => {
                return Err(Misuse::OutOfOrder.into());
            }
            None => None,
        };
        let (first, second): (&[u8], &[u8]) = match self.role {
            Role::Initiator => (&self.payload, payload),
            Role::Acceptor => (payload, &self.payload),
        };
        let id = SessionId(derive_truncated("OVL1/sid", &[first, second, exporter]));
        let flow = |receiving: Role| {
            let queries = plan.queries(receiving)?;
            let (receiver, evaluator, receiver_terms, evaluator_terms, key) =
                if receiving == self.role {
                    (&own, &peer, own_terms, peer_terms, peer_key)
                } else {
                    (&peer, &own, peer_terms, own_terms, own_key)
                };
            let (public_key, context) = key?;
            let list_queries = if queries.list {
                receiver.list_queries
            } else {
                0
            };
            let count_queries = if queries.count {
                receiver.count_queries
            } else {
                0
            };
            Some(ListFlow {
                session: id,
                mode: own.mode,
                flow: receiving.querying_flow(),
                context,
                public_key,
                queries: list_queries + count_queries,
                tags: evaluator.tags,
                chunk_elements: terms.chunk_elements(),
                evaluator_labels: evaluator_terms.label_format().ok()?,
                receiver_labels: receiver_terms.label_format().ok()?,
                evaluator_stages: evaluator_terms.stages_of(Tier::List),
                receiver_stages: receiver_terms.stages_of(Tier::List),
            })
        };
        let flows = [flow(Role::Initiator), flow(Role::Acceptor)];
        let [receiving, evaluating] = match self.role {
            Role::Initiator => &flows,
            Role::Acceptor => &[flows[1], flows[0]],
        };
        // "Within the other side's caps": what the peer asks of this side, by this side's terms.
        let within_caps = receiving.is_none_or(|flow| flow.tags <= own_terms.max_tags)
            && evaluating.is_none_or(|flow| flow.queries <= own_terms.max_queries);
        if !within_caps {
            return Err(Fault::SetTooLarge.into());
        }
        let session = Session {
            id,
            role: self.role,
            flows,
            plan,
            list_querier,
            own,
            peer,
            peer_organization_key: peer_state.organization_key,
        };
        Ok(Confirming { session })
    }
}

/// Sizes fit the terms: as many stages, and none that is not of the list tier.
fn check_sizes(hello: &Hello, terms: &SideTerms) -> Result<(), Fault> {
    if hello.stage_sizes.len() != terms.stages.len() {
        return Err(Fault::WrongCount);
    }
    for (size, stage) in hello.stage_sizes.iter().zip(&terms.stages) {
        if *size != 0 && stage.tier != Tier::List {
            return Err(Fault::WrongCount);
        }
    }
    Ok(())
}

/// The side that queries for list x list cells: the one remembered, else the smaller one, else the one with the lower id.
fn list_querier(role: Role, own: &Hello, peer: &Hello) -> Result<Role, Fault> {
    let remembered = |hello: &Hello, sender: Role| match hello.list_querier {
        ListQuerier::Open => None,
        ListQuerier::Sender => Some(sender),
        ListQuerier::Receiver => Some(sender.peer()),
    };
    match (remembered(own, role), remembered(peer, role.peer())) {
        (Some(own), Some(peer)) if own != peer => Err(Fault::RolesDiffer),
        (Some(remembered), _) | (None, Some(remembered)) => Ok(remembered),
        (None, None) => {
            let key = |hello: &Hello| (hello.list_queries, hello.sender);
            Ok(if key(own) < key(peer) {
                role
            } else {
                role.peer()
            })
        }
    }
}

/// "The receiver refuses an epoch below the highest seen and a second pk for a known epoch; pk is not the identity."
fn check_epoch_key(
    key: &EpochKey,
    peer: &Hello,
    state: &PeerState,
) -> Result<(PublicKey, Context), Fault> {
    if let Some((highest, pinned)) = &state.highest_epoch {
        if key.epoch < *highest {
            return Err(Fault::EpochRegression);
        }
        if key.epoch == *highest && key.public_key != *pinned {
            return Err(Fault::KeyChanged);
        }
    }
    let public_key = PublicKey::decode(&key.public_key)?;
    let context = Context::new(&peer.sender, &peer.receiver, key.epoch, &key.public_key);
    verify_key(&public_key, &context, &key.proof)?;
    Ok((public_key, context))
}

/// Both hellos are known; the peer has not proved yet that it holds its organisation key.
#[derive(Clone, Debug)]
pub struct Confirming {
    session: Session,
}

impl Confirming {
    /// The session to be: frames can be numbered, nothing else may be done with it yet.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The body of the CONFIRM frame.
    #[must_use]
    pub fn confirm(&self, signer: &(impl Signer + ?Sized)) -> Vec<u8> {
        let message = confirmation(&self.session.id, self.session.role);
        ConfirmBody {
            signature: signer.sign(&message),
        }
        .encode()
    }

    /// Takes the peer's confirmation.
    ///
    /// # Errors
    /// [`Fault::SignatureInvalid`].
    pub fn receive(self, body: &ConfirmBody) -> Result<Session, Fault> {
        let message = confirmation(&self.session.id, self.session.role.peer());
        verify(
            &self.session.peer_organization_key,
            &message,
            &body.signature,
        )?;
        Ok(self.session)
    }
}

pub(crate) fn confirmation(session: &SessionId, role: Role) -> [u8; 64] {
    crate::suite::derive("OVL1/confirm", &[&session.0, &[role.code()]])
}

/// A session both sides have confirmed.
#[derive(Clone, Debug)]
pub struct Session {
    id: SessionId,
    role: Role,
    plan: Plan,
    list_querier: Role,
    flows: [Option<ListFlow>; 2],
    own: Hello,
    peer: Hello,
    peer_organization_key: [u8; 32],
}

impl Session {
    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// The run.
    #[must_use]
    pub const fn run(&self) -> RunId {
        self.own.run
    }

    /// This side's role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The flows of the run.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Who queries for list x list cells, to be remembered until the epoch ends.
    #[must_use]
    pub const fn list_querier(&self) -> Role {
        self.list_querier
    }

    /// This side's hello.
    #[must_use]
    pub const fn own(&self) -> &Hello {
        &self.own
    }

    /// The peer's hello.
    #[must_use]
    pub const fn peer(&self) -> &Hello {
        &self.peer
    }

    /// The peer's pinned Ed25519 organisation key.
    #[must_use]
    pub const fn peer_organization_key(&self) -> &[u8; 32] {
        &self.peer_organization_key
    }

    /// The peer's epoch and VOPRF key, to be pinned.
    #[must_use]
    pub fn peer_epoch(&self) -> Option<(u64, Encoded)> {
        self.peer
            .epoch_key
            .as_ref()
            .map(|key| (key.epoch, key.public_key))
    }

    /// The list flow in which this side queries.
    #[must_use]
    pub const fn receiving(&self) -> Option<ListFlow> {
        self.flow_of(self.role)
    }

    /// The list flow in which this side evaluates.
    #[must_use]
    pub const fn evaluating(&self) -> Option<ListFlow> {
        self.flow_of(self.role.peer())
    }

    /// A list flow by its number.
    #[must_use]
    pub const fn list_flow(&self, flow: Flow) -> Option<ListFlow> {
        match flow {
            Flow::InitiatorQueries => self.flow_of(Role::Initiator),
            Flow::AcceptorQueries => self.flow_of(Role::Acceptor),
            Flow::Session | Flow::Count => None,
        }
    }

    const fn flow_of(&self, receiving: Role) -> Option<ListFlow> {
        match receiving {
            Role::Initiator => self.flows[0],
            Role::Acceptor => self.flows[1],
        }
    }

    /// Whether a receipt that the peer presents is this side's own of a run with this peer, and newer than what this side
    /// remembers: then this side was rolled back.
    ///
    /// # Errors
    /// [`Fault::SignatureInvalid`] if the peer presents a receipt that this side never signed,
    /// [`Fault::WrongOrganization`] if it is of a run with someone else.
    pub fn rolled_back(&self, own_organization_key: &[u8; 32]) -> Result<bool, Fault> {
        let Some(receipt) = &self.peer.peer_receipt else {
            return Ok(false);
        };
        receipt.verify(own_organization_key)?;
        let signer = receipt.receipt.signer;
        if receipt.receipt.side(signer.peer()).organization != self.peer.sender {
            return Err(Fault::WrongOrganization);
        }
        Ok(receipt.receipt.run_counter > self.own.run_counter
            || (receipt.receipt.run_counter == self.own.run_counter
                && !bool::from(receipt.hash().ct_eq(&self.own.receipt_head))))
    }
}
