//! The file of one run's receipts, and its verification without any node (PROTOCOL.md §10).

use std::io::{self, Read};

use jiff::Timestamp;
use overlap_crypto::{
    audit::{Audit, AuditReport},
    backend::Backend,
    context::OrganizationId,
    handshake::Mode,
    plan::Role,
    receipt::SignedReceipt,
    recording::{EntryHeader, HEADER_BYTES, MAGIC},
};
use serde::{Deserialize, Serialize};

use super::{Receipt, ReceiptSide};

/// What the file says it is.
const FORMAT: &str = "overlap-receipt-1";

/// Both receipts of a run with what it takes to verify them. All byte strings are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptFile {
    format: String,
    /// The run on the exporting node.
    pub run: String,
    /// The partner's name.
    pub partner: String,
    /// When the run began.
    pub started_at: Option<Timestamp>,
    /// `full` or `changes`.
    pub mode: String,
    /// The exporting organisation's key.
    pub my_key: String,
    /// The partner's.
    pub partner_key: String,
    /// The hash of the sharing terms, by the exporting node's receipt.
    pub terms_hash: String,
    /// The body of the exporting node's RECEIPT frame.
    pub my_receipt: String,
    /// The body of the partner's; unset if it never arrived.
    pub partner_receipt: Option<String>,
    /// Opens the commitment to the result in the exporting node's receipt.
    pub result_salt: String,
}

/// Why a file is none of receipts.
#[derive(Debug, thiserror::Error)]
#[error("not a file of receipts: {0}")]
pub struct ReceiptFileError(String);

/// What two good receipts say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Statement {
    /// The session, hexadecimal.
    pub session: String,
    /// The hash of the sharing terms, hexadecimal.
    pub terms_hash: String,
    /// Whether the run matched everything, as both signed it.
    pub full: bool,
    /// What the exporting side brought.
    pub mine: ReceiptSide,
    /// What the partner brought.
    pub theirs: ReceiptSide,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether all is good.
    pub valid: bool,
    /// What is not; empty if all is.
    pub problems: Vec<String>,
    /// What the receipts say, if they are good.
    pub statement: Option<Statement>,
    /// What was checked of a recording, if one was.
    pub frames: Option<FramesChecked>,
}

/// What was checked of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FramesChecked {
    /// Frames of both chains.
    pub frames: u64,
    /// Chunks whose proof verified.
    pub chunks: u64,
    /// Elements in those chunks.
    pub elements: u64,
    /// Slices that are what was committed to.
    pub slices: u64,
    /// Reports whose signature verified.
    pub reports: u64,
    /// Whether the run matched changes only. What its removals, earlier claims and withdrawals refer to was published by earlier
    /// runs: of these frames it is checked that they are as signed, and no more.
    pub delta: bool,
}

impl From<&AuditReport> for FramesChecked {
    fn from(report: &AuditReport) -> Self {
        Self {
            frames: report.frames,
            chunks: report.chunks,
            elements: report.elements,
            slices: report.slices,
            reports: report.reports,
            delta: report.delta,
        }
    }
}

/// What a run covered, for people.
const fn mode_name(full: bool) -> &'static str {
    if full { "full" } else { "changes" }
}

/// Both receipts, decoded.
struct Pair {
    mine: SignedReceipt,
    theirs: SignedReceipt,
}

impl ReceiptFile {
    pub(super) fn new(
        receipt: &Receipt,
        mine: &[u8],
        theirs: &[u8],
        result_salt: &[u8],
    ) -> Option<Self> {
        let own = SignedReceipt::decode(mine).ok()?;
        Some(Self {
            format: FORMAT.to_owned(),
            run: receipt.run.clone(),
            partner: receipt.organization.clone(),
            started_at: receipt.started_at,
            mode: mode_name(own.receipt.mode == Mode::Full).to_owned(),
            my_key: receipt.my_key.clone(),
            partner_key: receipt.their_key.clone(),
            terms_hash: hex::encode(own.receipt.terms),
            my_receipt: hex::encode(mine),
            partner_receipt: (!theirs.is_empty()).then(|| hex::encode(theirs)),
            result_salt: hex::encode(result_salt),
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it is none of receipts.
    pub fn parse(text: &str) -> Result<Self, ReceiptFileError> {
        let file: Self =
            serde_json::from_str(text).map_err(|error| ReceiptFileError(error.to_string()))?;
        if file.format != FORMAT {
            return Err(ReceiptFileError(format!(
                "its format is \"{}\", not \"{FORMAT}\"",
                file.format
            )));
        }
        Ok(file)
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings make JSON");
        text.push('\n');
        text
    }

    /// Verifies both receipts with the two organisation keys, which have to come from elsewhere than this file. Uses nothing
    /// but the file.
    #[must_use]
    pub fn verify(&self, my_key: &[u8; 32], partner_key: &[u8; 32]) -> Verdict {
        self.check(my_key, partner_key).0
    }

    /// As [`ReceiptFile::verify`], and checks a recording of the run's frames: the transcript roots of the receipts, every
    /// signature, and the proof of every evaluated chunk.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn verify_frames(
        &self,
        my_key: &[u8; 32],
        partner_key: &[u8; 32],
        recording: impl Read,
    ) -> io::Result<Verdict> {
        let (mut verdict, pair) = self.check(my_key, partner_key);
        let Some(pair) = pair.filter(|_| verdict.valid) else {
            return Ok(verdict);
        };
        let (keys, receipts) = match pair.mine.receipt.signer {
            Role::Initiator => ([*my_key, *partner_key], [pair.mine, pair.theirs]),
            Role::Acceptor => ([*partner_key, *my_key], [pair.theirs, pair.mine]),
        };
        let report = audit(Audit::new(Backend::detect(), keys, receipts), recording)?;
        verdict.frames = Some((&report).into());
        verdict.problems = report.problems;
        verdict.valid = verdict.problems.is_empty();
        Ok(verdict)
    }

    fn check(&self, my_key: &[u8; 32], partner_key: &[u8; 32]) -> (Verdict, Option<Pair>) {
        let mut problems = Vec::new();
        for (stated, key, whose) in [
            (&self.my_key, my_key, "my"),
            (&self.partner_key, partner_key, "the partner's"),
        ] {
            if *stated != hex::encode(key) {
                problems.push(format!(
                    "wrong key: the file names another organisation key as {whose} than the one given"
                ));
            }
        }
        let mut decode = |text: Option<&str>, whose: &str, key: &[u8; 32]| {
            let Some(text) = text else {
                problems.push(format!("{whose} receipt is missing"));
                return None;
            };
            let receipt = hex::decode(text)
                .ok()
                .and_then(|bytes| SignedReceipt::decode(&bytes).ok());
            match &receipt {
                None => problems.push(format!("{whose} receipt is malformed")),
                Some(receipt) if receipt.signer() != OrganizationId::of_key(key) => {
                    problems.push(format!(
                        "{whose} receipt was signed by another organisation than the one whose key was given"
                    ));
                }
                Some(receipt) if receipt.verify(key).is_err() => {
                    problems.push(format!("{whose} signature does not verify"));
                }
                Some(_) => {}
            }
            receipt
        };
        let mine = decode(Some(&self.my_receipt), "my", my_key);
        let theirs = decode(
            self.partner_receipt.as_deref(),
            "the partner's",
            partner_key,
        );
        if let Some(mine) = &mine
            && self.terms_hash != hex::encode(mine.receipt.terms)
        {
            problems.push("the file's terms hash is not that of my receipt".to_owned());
        }
        if let Some(mine) = &mine
            && self.mode != mode_name(mine.receipt.mode == Mode::Full)
        {
            problems.push("the file's mode is not that of my receipt".to_owned());
        }
        if hex::decode(&self.result_salt).map(|salt| salt.len()) != Ok(32) {
            problems.push("the result's salt is malformed".to_owned());
        }
        let (Some(mine), Some(theirs)) = (mine, theirs) else {
            return (Verdict::of(problems, None), None);
        };
        if mine.receipt.signer == theirs.receipt.signer {
            problems.push("both receipts were signed in the same role".to_owned());
        }
        for name in mine.receipt.differences(&theirs.receipt) {
            problems.push(format!("the receipts differ: {name}"));
        }
        let side = |role| {
            let side = mine.receipt.side(role);
            ReceiptSide {
                list_queries: side.list_queries,
                count_queries: side.count_queries,
                tags: side.tags,
                frames: side.frames,
                epoch: side.epoch,
            }
        };
        let statement = Statement {
            session: hex::encode(mine.receipt.session.0),
            terms_hash: hex::encode(mine.receipt.terms),
            full: mine.receipt.mode == Mode::Full,
            mine: side(mine.receipt.signer),
            theirs: side(mine.receipt.signer.peer()),
        };
        (
            Verdict::of(problems, Some(statement)),
            Some(Pair { mine, theirs }),
        )
    }
}

impl Verdict {
    fn of(problems: Vec<String>, statement: Option<Statement>) -> Self {
        let valid = problems.is_empty();
        Self {
            valid,
            problems,
            statement: statement.filter(|_| valid),
            frames: None,
        }
    }
}

/// Feeds a recording to an audit.
fn audit(mut audit: Audit, mut recording: impl Read) -> io::Result<AuditReport> {
    let problem = |problem: &str| {
        Ok(AuditReport {
            problems: vec![problem.to_owned()],
            ..AuditReport::default()
        })
    };
    let mut magic = [0; MAGIC.len()];
    if read_full(&mut recording, &mut magic)? != magic.len() || magic != *MAGIC {
        return problem("the recording is none of a run's frames");
    }
    let mut body = Vec::new();
    loop {
        let mut bytes = [0; HEADER_BYTES];
        match read_full(&mut recording, &mut bytes)? {
            0 => return Ok(audit.finish()),
            HEADER_BYTES => {}
            _ => return problem("the recording is cut off"),
        }
        let Ok(header) = EntryHeader::decode(&bytes) else {
            return problem("the recording has an entry that is malformed");
        };
        body.clear();
        let length = u64::from(header.body_bytes);
        if recording.by_ref().take(length).read_to_end(&mut body)? as u64 != length {
            return problem("the recording is cut off");
        }
        audit.entry(&header.kind, &body);
        if audit.is_hopeless() {
            return Ok(audit.finish());
        }
    }
}

/// Fills the buffer as far as there is something to read.
fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
