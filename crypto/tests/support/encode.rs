//! Back from messages to bodies.

use overlap_crypto::wire::Message;

/// The body that a decoded message encodes to.
pub(crate) fn encode(message: &Message<'_>) -> Vec<u8> {
    match message {
        Message::Hello(body) => body.encode(),
        Message::Confirm(body) => body.encode(),
        Message::Report(body) => body.encode(),
        Message::Receipt(body) => body.encode(),
        Message::Resume(body) => body.encode(),
        Message::Abort(body) => body.encode(),
        Message::Ack(body) => body.encode(),
        Message::Query(body) => body.encode(),
        Message::Evaluation(body) => body.encode(),
        Message::Commitments(body) => body.encode(),
        Message::Slice(body) => body.payload.to_vec(),
        Message::Claims(body) => body.encode(),
        Message::Removals(body) | Message::Withdrawals(body) => body.encode(),
        Message::EarlierClaims(body) => body.encode(),
        Message::CountCommit(body) => body.encode(),
        Message::CountOpen(body) => body.encode(),
        Message::CountElements(body) => body.encode(),
        Message::CountReturns(body) => body.encode(),
        other => panic!("{other:?}"),
    }
}
