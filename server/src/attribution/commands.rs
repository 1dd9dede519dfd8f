//! What people here do with requests.

use rusqlite::Transaction;

use super::{
    notices::{CANCEL, Cancel, REQUESTED, Requested, action_of, kind_of, tell},
    rows::{self, Attribution},
    state::{Command, Direction, Refusal, State, Step},
};
use crate::{
    audit,
    auth::{Caller, Role},
    changes::{self, Kind},
    collaboration::{SharedCustomers, paragraph, remember, repeated},
    error::{Error, Reason},
    identity::new_id,
    node::Node,
    partnership,
};

/// Who does something, where, and what is known of shared customers.
pub(super) struct Desk<'a> {
    pub(super) node: &'a Node,
    pub(super) tx: &'a Transaction<'a>,
    pub(super) customers: &'a dyn SharedCustomers,
    pub(super) caller: &'a Caller,
}

impl Desk<'_> {
    /// Asks the partner for attribution.
    pub(super) fn request(
        &self,
        partner: &str,
        customer: &str,
        details: &str,
        request_id: &str,
    ) -> Result<Attribution, Error> {
        const CALL: &str = "attribution.request";
        let (node, tx) = (self.node, self.tx);
        let partnership = partnership::connected(tx, partner)?.id;
        let details = paragraph("details", details)?;
        if details.is_empty() {
            return Err(Error::invalid(
                "details",
                "must say how you influenced the customer",
            ));
        }
        let content = [partnership.as_str(), customer, &details];
        if let Some(id) = repeated(tx, self.caller, CALL, request_id, &content)? {
            return self.existing(&partnership, &id);
        }
        let shared = self
            .customers
            .by_customer(node, tx, &partnership, customer)?
            .ok_or_else(|| Error::not_found("shared customer", customer))?;
        self.customers
            .may_name(node, tx, &partnership, &shared.id)?;
        if let Some(pending) = rows::pending(tx, &partnership, &shared.ids)? {
            return Err(Error::new(
                Reason::AlreadyExists,
                format!("request {pending} for this customer waits for the partner's decision"),
            )
            .with("attribution", pending));
        }
        let attribution = Attribution {
            partnership,
            id: new_id("atr")?,
            direction: Direction::Sent,
            state: State::Pending,
            customer: shared.id,
            handle: shared.handle,
            details,
            comment: String::new(),
            requested_at: node.now(),
            decided_at: None,
            cancel_asked_at: None,
            user: self.caller.user.clone(),
        };
        attribution.insert(tx)?;
        crate::notices::enqueue(
            node,
            tx,
            &attribution.partnership,
            REQUESTED,
            &Requested {
                id: attribution.id.clone(),
                handle: attribution.handle.clone(),
                details: attribution.details.clone(),
                requested_us: attribution.requested_at.as_microsecond(),
            },
        )?;
        self.note(Kind::AttributionSent, "attribution.requested", &attribution)?;
        let content = [
            attribution.partnership.as_str(),
            customer,
            &attribution.details,
        ];
        remember(
            tx,
            self.caller,
            CALL,
            request_id,
            &content,
            &attribution.id,
            node.now(),
        )?;
        Ok(attribution)
    }

    /// Approves, denies or cancels a request.
    pub(super) fn command(
        &self,
        partner: &str,
        id: &str,
        command: Command,
        comment: &str,
        request_id: &str,
    ) -> Result<Attribution, Error> {
        let call = match command {
            Command::Approve => "attribution.approve",
            Command::Deny => "attribution.deny",
            Command::Cancel => "attribution.cancel",
        };
        let (node, tx) = (self.node, self.tx);
        let partnership = partnership::connected(tx, partner)?.id;
        let comment = paragraph("comment", comment)?;
        let content = [partnership.as_str(), id, &comment];
        if let Some(id) = repeated(tx, self.caller, call, request_id, &content)? {
            return self.existing(&partnership, &id);
        }
        let mut attribution = self.existing(&partnership, id)?;
        let step = attribution.copy().command(command).map_err(refusal)?;
        match step {
            Step::Decide(outcome) => {
                if attribution.resolve(node, tx, self.customers)? {
                    rows::set_customer(tx, &partnership, id, &attribution.customer)?;
                }
                // The decision is about a customer of mine, so it names it.
                self.customers
                    .may_name(node, tx, &partnership, &attribution.customer)?;
                attribution.user.clone_from(&self.caller.user);
                attribution.end(tx, outcome, &comment, node.now())?;
                tell(node, tx, &attribution)?;
                self.note(kind_of(outcome), action_of(outcome), &attribution)?;
            }
            Step::AskToCancel => {
                self.require_own(&attribution)?;
                attribution.ask_to_cancel(tx, node.now())?;
                crate::notices::enqueue(
                    node,
                    tx,
                    &partnership,
                    CANCEL,
                    &Cancel {
                        id: attribution.id.clone(),
                    },
                )?;
                self.audit("attribution.cancel_requested", &attribution)?;
            }
            Step::Wait => self.require_own(&attribution)?,
        }
        remember(
            tx,
            self.caller,
            call,
            request_id,
            &content,
            &attribution.id,
            node.now(),
        )?;
        Ok(attribution)
    }

    fn existing(&self, partnership: &str, id: &str) -> Result<Attribution, Error> {
        find(self.tx, partnership, id)
    }

    /// Members withdraw what they asked for themselves.
    fn require_own(&self, attribution: &Attribution) -> Result<(), Error> {
        if self.caller.role == Role::Member && self.caller.user != attribution.user {
            return self.caller.require(&Role::MANAGERS);
        }
        Ok(())
    }

    fn note(&self, kind: Kind, action: &str, attribution: &Attribution) -> Result<(), Error> {
        changes::record(
            self.tx,
            self.node.now(),
            kind,
            Some(&attribution.partnership),
            &attribution.id,
            &[],
        )?;
        self.audit(action, attribution)
    }

    fn audit(&self, action: &str, attribution: &Attribution) -> Result<(), Error> {
        audit::record(
            self.tx,
            self.node.now(),
            &self.caller.token_id,
            action,
            Some(&attribution.partnership),
            &[("attribution", &attribution.id)],
        )
    }
}

/// One request that people may see.
pub(super) fn find(
    connection: &rusqlite::Connection,
    partnership: &str,
    id: &str,
) -> Result<Attribution, Error> {
    rows::find(connection, partnership, id)?
        .filter(|attribution| !attribution.handle.is_empty())
        .ok_or_else(|| Error::not_found("attribution", id))
}

fn refusal(refusal: Refusal) -> Error {
    match refusal {
        Refusal::OwnRequest => Error::new(
            Reason::OwnRequest,
            "this request is your own: only the partner decides it",
        ),
        Refusal::NotTheRequester => Error::new(
            Reason::NotTheRequester,
            "this request is the partner's: only the partner cancels it",
        ),
        Refusal::Ended(state) => Error::new(
            Reason::AlreadyDecided,
            format!("this request is {} already", state.name().to_lowercase()),
        )
        .with("state", state.name()),
    }
}
