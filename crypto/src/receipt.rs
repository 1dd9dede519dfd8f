//! Receipts: what both sides sign about a run, verifiable offline (PROTOCOL.md §10).

use crate::{
    backend::Encoded,
    context::{OrganizationId, RunId, SessionId},
    fault::Fault,
    handshake::{Mode, Session},
    plan::Role,
    signature::{Signer, verify},
    suite::{derive, derive_truncated},
    transcript::Chain,
    wire::{Reader, Writer},
};

/// One side of a run, as a receipt states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptSide {
    /// The organisation.
    pub organization: OrganizationId,
    /// Its epoch and VOPRF key, or zeros if it did not evaluate.
    pub epoch: u64,
    /// Its VOPRF key, or zeros.
    pub public_key: Encoded,
    /// Its padded number of list-tier queries.
    pub list_queries: u64,
    /// Its padded number of count-tier queries.
    pub count_queries: u64,
    /// Its padded number of published tags.
    pub tags: u64,
    /// The head of the chain over everything it sent before its receipt.
    pub head: [u8; 32],
    /// How many frames that were.
    pub frames: u64,
}

/// What a receipt states. It holds no result, and no count of matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Who signs.
    pub signer: Role,
    /// Whether the run covered everything or changes.
    pub mode: Mode,
    /// The run.
    pub run: RunId,
    /// The session.
    pub session: SessionId,
    /// The hash of the terms.
    pub terms: [u8; 32],
    /// The initiator.
    pub initiator: ReceiptSide,
    /// The acceptor.
    pub acceptor: ReceiptSide,
    /// How many receipts the signer has signed in this partnership, this one included.
    pub run_counter: u64,
    /// The hash of the signer's receipt before this one, or zeros.
    pub previous: [u8; 32],
    /// The salted commitment to the signer's result.
    pub result: [u8; 32],
}

/// The commitment to a result: `Derive("OVL1/result", salt, result)` cut to 32 bytes.
#[must_use]
pub fn commit_result(salt: &[u8; 32], result: &[u8]) -> [u8; 32] {
    derive_truncated("OVL1/result", &[salt, result])
}

impl Receipt {
    /// This side's receipt of a session. Both chains end before either receipt.
    #[must_use]
    pub fn new(session: &Session, outbound: &Chain, inbound: &Chain, result: [u8; 32]) -> Self {
        let side = |hello: &crate::handshake::Hello, chain: &Chain| {
            let (epoch, public_key) = hello
                .epoch_key
                .as_ref()
                .map_or((0, [0; 32]), |key| (key.epoch, key.public_key));
            ReceiptSide {
                organization: hello.sender,
                epoch,
                public_key,
                list_queries: hello.list_queries,
                count_queries: hello.count_queries,
                tags: hello.tags,
                head: chain.head(),
                frames: chain.frames(),
            }
        };
        let own = side(session.own(), outbound);
        let peer = side(session.peer(), inbound);
        let (initiator, acceptor) = match session.role() {
            Role::Initiator => (own, peer),
            Role::Acceptor => (peer, own),
        };
        Self {
            signer: session.role(),
            mode: session.own().mode,
            run: session.run(),
            session: session.id(),
            terms: session.own().terms,
            initiator,
            acceptor,
            run_counter: session.own().run_counter + 1,
            previous: session.own().receipt_head,
            result,
        }
    }

    /// Signs it.
    #[must_use]
    pub fn sign(self, signer: &(impl Signer + ?Sized)) -> SignedReceipt {
        SignedReceipt {
            signature: signer.sign(&self.message()),
            receipt: self,
        }
    }

    /// Whether `peer` states the same run from the other side.
    ///
    /// # Errors
    /// [`Fault::ReceiptDiffers`].
    pub fn agrees_with(&self, peer: &Self) -> Result<(), Fault> {
        if self.differences(peer).is_empty() && self.signer == peer.signer.peer() {
            Ok(())
        } else {
            Err(Fault::ReceiptDiffers)
        }
    }

    /// What a side of the run is said to have brought and sent.
    #[must_use]
    pub const fn side(&self, role: Role) -> &ReceiptSide {
        match role {
            Role::Initiator => &self.initiator,
            Role::Acceptor => &self.acceptor,
        }
    }

    /// The names of the statements about the run in which two receipts differ. Signer, run counter, previous receipt and
    /// result are each signer's own.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut names = Vec::new();
        let mut compare = |same: bool, name: &str| {
            if !same {
                names.push(name.to_owned());
            }
        };
        compare(self.run == other.run, "run");
        compare(self.mode == other.mode, "mode");
        compare(self.session == other.session, "session id");
        compare(self.terms == other.terms, "terms hash");
        for (role, whose) in [(Role::Initiator, "initiator"), (Role::Acceptor, "acceptor")] {
            let (one, two) = (self.side(role), other.side(role));
            let mut compare = |same, what| compare(same, &format!("{whose}'s {what}"));
            compare(one.organization == two.organization, "organisation");
            compare(one.epoch == two.epoch, "epoch");
            compare(one.public_key == two.public_key, "VOPRF key");
            compare(one.list_queries == two.list_queries, "list queries");
            compare(one.count_queries == two.count_queries, "count queries");
            compare(one.tags == two.tags, "tags");
            compare(one.head == two.head, "transcript root");
            compare(one.frames == two.frames, "number of frames");
        }
        names
    }

    fn encode(&self) -> Vec<u8> {
        let side = |writer: Writer, side: &ReceiptSide| {
            writer
                .bytes(&side.organization.0)
                .u64(side.epoch)
                .bytes(&side.public_key)
                .u64(side.list_queries)
                .u64(side.count_queries)
                .u64(side.tags)
                .bytes(&side.head)
                .u64(side.frames)
        };
        let writer = Writer::with_capacity(512)
            .u8(self.signer.code() | u8::from(self.mode == Mode::Delta) << 1)
            .bytes(&self.run.0)
            .bytes(&self.session.0)
            .bytes(&self.terms);
        let writer = side(side(writer, &self.initiator), &self.acceptor);
        writer
            .u64(self.run_counter)
            .bytes(&self.previous)
            .bytes(&self.result)
            .finish()
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let side = |reader: &mut Reader<'_>| -> Result<ReceiptSide, Fault> {
            Ok(ReceiptSide {
                organization: OrganizationId(reader.array()?),
                epoch: reader.u64()?,
                public_key: reader.array()?,
                list_queries: reader.u64()?,
                count_queries: reader.u64()?,
                tags: reader.u64()?,
                head: reader.array()?,
                frames: reader.u64()?,
            })
        };
        let (signer, mode) = match reader.u8()? {
            0 => (Role::Initiator, Mode::Full),
            1 => (Role::Acceptor, Mode::Full),
            2 => (Role::Initiator, Mode::Delta),
            3 => (Role::Acceptor, Mode::Delta),
            _ => return Err(Fault::MalformedPayload),
        };
        Ok(Self {
            signer,
            mode,
            run: RunId(reader.array()?),
            session: SessionId(reader.array()?),
            terms: reader.array()?,
            initiator: side(reader)?,
            acceptor: side(reader)?,
            run_counter: reader.u64()?,
            previous: reader.array()?,
            result: reader.array()?,
        })
    }

    fn message(&self) -> [u8; 64] {
        derive("OVL1/receipt", &[&self.encode()])
    }
}

/// A receipt with its signer's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    /// The statement.
    pub receipt: Receipt,
    /// The organisation key's signature.
    pub signature: [u8; 64],
}

impl SignedReceipt {
    /// Decodes the body of a RECEIPT frame, or a receipt kept in a file.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`].
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let receipt = Receipt::decode(&mut reader)?;
        let signature = reader.array()?;
        reader.finish()?;
        Ok(Self { receipt, signature })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.receipt.encode();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// The organisation that the receipt says has signed it.
    #[must_use]
    pub const fn signer(&self) -> OrganizationId {
        self.receipt.side(self.receipt.signer).organization
    }

    /// Checks the signature, and that the key is that of the organisation that signs.
    ///
    /// # Errors
    /// [`Fault::SignatureInvalid`].
    pub fn verify(&self, organization_key: &[u8; 32]) -> Result<(), Fault> {
        if self.signer() != OrganizationId::of_key(organization_key) {
            return Err(Fault::SignatureInvalid);
        }
        verify(organization_key, &self.receipt.message(), &self.signature)
    }

    /// The hash that the signer's next receipt and hello carry.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        derive_truncated("OVL1/receipt-head", &[&self.encode()])
    }
}
