//! ReceiptService: what both sides signed of each run.

use std::{collections::HashMap, sync::Arc};

use overlap_crypto::{handshake::Mode, plan::Role as RunRole, receipt::SignedReceipt};
use overlap_proto::v1::{
    self, GetReceiptRequest, GetReceiptResponse, ListReceiptsRequest, ListReceiptsResponse,
    SignatureState, receipt_service_server::ReceiptService,
};
use rusqlite::Connection;
use tonic::{Request, Response, Status};

use super::records::{self, ReceiptRecord, timestamp};
use crate::{
    audit,
    auth::{Caller, Role},
    convert::Page,
    error::Error,
    node::Node,
    partnership::{self, Partnership},
};

/// ReceiptService over a node.
pub struct Service(Arc<Node>);

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self(node)
    }

    fn to_proto(&self, record: &ReceiptRecord, partnership: &Partnership) -> v1::Receipt {
        let (my_key, their_key) = (
            self.0.identity.organization_key(),
            partnership.organization_key,
        );
        let own = &record.own.receipt;
        let side = |role: RunRole| {
            let side = own.side(role);
            v1::ReceiptSide {
                list_queries: side.list_queries,
                count_queries: side.count_queries,
                tags: side.tags,
                frames: side.frames,
                epoch: side.epoch,
            }
        };
        let valid = |receipt: &SignedReceipt, key| {
            if receipt.verify(key).is_ok() {
                SignatureState::Valid
            } else {
                SignatureState::Invalid
            }
        };
        let their_signature = match &record.peer {
            None => SignatureState::Missing,
            Some(peer) => match valid(peer, &their_key) {
                SignatureState::Valid if own.agrees_with(&peer.receipt).is_err() => {
                    SignatureState::Differs
                }
                state => state,
            },
        };
        v1::Receipt {
            run: record.run_id.clone(),
            partner: partnership.id.clone(),
            organization: partnership.organization.clone(),
            started_at: Some(timestamp(record.started_at)),
            ended_at: record.ended_at.map(timestamp),
            full: own.mode == Mode::Full,
            initiated_here: own.signer == RunRole::Initiator,
            mine: Some(side(own.signer)),
            theirs: Some(side(own.signer.peer())),
            my_signature: valid(&record.own, &my_key).into(),
            their_signature: their_signature.into(),
            session: hex::encode(own.session.0),
            my_key: my_key.to_vec(),
            their_key: their_key.to_vec(),
        }
    }
}

/// A partnership that is or was connected: evidence outlives it.
fn paired(connection: &Connection, partner: &str) -> Result<Partnership, Error> {
    partnership::find(connection, partner)?.into_paired()
}

#[tonic::async_trait]
impl ReceiptService for Service {
    async fn list_receipts(
        &self,
        request: Request<ListReceiptsRequest>,
    ) -> Result<Response<ListReceiptsResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::ADMINS)?;
        let request = request.into_inner();
        let filter = format!("receipts/{}", request.partner);
        let page = Page::of(request.page_size, &request.page_token, &filter)?;
        let (records, partnerships) = self
            .0
            .store
            .read(move |connection| {
                let only = match request.partner.as_str() {
                    "" => None,
                    partner => Some(paired(connection, partner)?.id),
                };
                let records = records::list_receipts(
                    connection,
                    only.as_deref(),
                    page.offset,
                    page.size + 1,
                )?;
                let mut partnerships = HashMap::new();
                for record in &records {
                    let id = &record.partnership_id;
                    if !partnerships.contains_key(id) {
                        partnerships.insert(id.clone(), paired(connection, id)?);
                    }
                }
                Ok((records, partnerships))
            })
            .await?;
        let (records, next_page_token) = page.cut(records, &filter);
        Ok(Response::new(ListReceiptsResponse {
            receipts: records
                .iter()
                .map(|record| self.to_proto(record, &partnerships[&record.partnership_id]))
                .collect(),
            next_page_token,
        }))
    }

    async fn get_receipt(
        &self,
        request: Request<GetReceiptRequest>,
    ) -> Result<Response<GetReceiptResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::ADMINS)?;
        let run = request.into_inner().run;
        let node = Arc::clone(&self.0);
        let (record, partnership) = self
            .0
            .store
            .write(move |tx| {
                let record = records::receipts_of(tx, &run)?;
                let partnership = paired(tx, &record.partnership_id)?;
                audit::record(
                    tx,
                    node.now(),
                    &caller.token_id,
                    "receipt.exported",
                    Some(&partnership.id),
                    &[("run", &run)],
                )?;
                Ok((record, partnership))
            })
            .await?;
        Ok(Response::new(GetReceiptResponse {
            receipt: Some(self.to_proto(&record, &partnership)),
            my_receipt: record.own.encode(),
            their_receipt: record.peer.map(|peer| peer.encode()).unwrap_or_default(),
            result_salt: record.salt.to_vec(),
        }))
    }
}
