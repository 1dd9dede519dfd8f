//! Receipts of runs: what both sides signed, as the node lists it and as a file that is verified without any node.

mod file;

use futures::stream::Stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error, Page, PageRequest,
    convert::{present, time},
    paging::entries,
    v1,
};

pub use file::{FramesChecked, ReceiptFile, ReceiptFileError, Statement, Verdict};

named_enum! {
    /// What a signature is worth.
    SignatureState of v1::SignatureState {
        /// It verifies under its organisation's key.
        Valid = "VALID",
        /// It does not.
        Invalid = "INVALID",
        /// It never arrived: the run broke between the two receipts.
        Missing = "MISSING",
        /// It verifies, but under other statements than this node's.
        Differs = "DIFFERS",
    }
}

/// What one side brought to a run, padding included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReceiptSide {
    /// Queries of its list tier.
    pub list_queries: u64,
    /// Queries of its count tier.
    pub count_queries: u64,
    /// Tags it published.
    pub tags: u64,
    /// Frames it sent before its receipt.
    pub frames: u64,
    /// Its epoch; 0 if it did not evaluate.
    pub epoch: u64,
}

impl From<v1::ReceiptSide> for ReceiptSide {
    fn from(side: v1::ReceiptSide) -> Self {
        Self {
            list_queries: side.list_queries,
            count_queries: side.count_queries,
            tags: side.tags,
            frames: side.frames,
            epoch: side.epoch,
        }
    }
}

/// The receipts of one run, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// The run on this node.
    pub run: String,
    /// Id of the partnership.
    pub partner: String,
    /// The partner's name.
    pub organization: String,
    /// When the run began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whether it matched everything again.
    pub full: bool,
    /// Whether this node started it.
    pub initiated_here: bool,
    /// What this side brought.
    pub mine: ReceiptSide,
    /// What the partner brought.
    pub theirs: ReceiptSide,
    /// This node's signature.
    pub my_signature: SignatureState,
    /// The partner's.
    pub their_signature: SignatureState,
    /// The session, hexadecimal: the same on both nodes.
    pub session: String,
    /// This organisation's key, hexadecimal.
    pub my_key: String,
    /// The partner's, hexadecimal.
    pub their_key: String,
}

impl From<v1::Receipt> for Receipt {
    fn from(receipt: v1::Receipt) -> Self {
        Self {
            run: receipt.run,
            partner: receipt.partner,
            organization: receipt.organization,
            started_at: time(receipt.started_at),
            ended_at: time(receipt.ended_at),
            full: receipt.full,
            initiated_here: receipt.initiated_here,
            mine: receipt.mine.unwrap_or_default().into(),
            theirs: receipt.theirs.unwrap_or_default().into(),
            my_signature: SignatureState::from_proto(receipt.my_signature),
            their_signature: SignatureState::from_proto(receipt.their_signature),
            session: receipt.session,
            my_key: hex::encode(receipt.my_key),
            their_key: hex::encode(receipt.their_key),
        }
    }
}

impl Client {
    /// One page of the receipts, of one partner if `partner` is set.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_receipts(
        &self,
        partner: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<Receipt>, Error> {
        let answer = ask!(self.receipt_api().list_receipts(v1::ListReceiptsRequest {
            partner: partner.unwrap_or_default().to_owned(),
            page_size: page.size(),
            page_token: page.token,
        }))
        .await?;
        Ok(Page::new(answer.receipts, answer.next_page_token))
    }

    /// Every receipt, newest run first.
    pub fn receipts<'a>(
        &'a self,
        partner: Option<&'a str>,
    ) -> impl Stream<Item = Result<Receipt, Error>> + Send + 'a {
        entries(move |page| self.list_receipts(partner, page))
    }

    /// The receipts of one run, as a file that is verified offline.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn receipt_file(&self, run: &str) -> Result<ReceiptFile, Error> {
        let answer = ask!(self.receipt_api().get_receipt(v1::GetReceiptRequest {
            run: run.to_owned(),
        }))
        .await?;
        let receipt = present(answer.receipt, "the receipt")?.into();
        ReceiptFile::new(
            &receipt,
            &answer.my_receipt,
            &answer.their_receipt,
            &answer.result_salt,
        )
        .ok_or(Error::Response {
            missing: "a readable receipt",
        })
    }
}
