//! Recordings of runs, checked as an auditor does.

use overlap_client::{FramesChecked, ReceiptFile};
use overlap_crypto::signature::Signer as _;
use overlap_server::matching::recording;
use serde_json::json;

use super::harness::{PARTNERSHIP, TestNode};

/// The receipts of a node's run, as a file.
fn receipts(node: &TestNode, partner: &TestNode, run: &str, mode: &str) -> ReceiptFile {
    let (mine, theirs): (Vec<u8>, Vec<u8>) = node
        .store
        .read_blocking(|connection| {
            let sql = "SELECT own, peer FROM matching_receipts WHERE run_id = ?1";
            Ok(connection.query_row(sql, [run], |row| Ok((row.get(0)?, row.get(1)?)))?)
        })
        .unwrap();
    let document = json!({
        "format": "overlap-receipt-1",
        "run": run,
        "partner": "",
        "started_at": null,
        "mode": mode,
        "my_key": hex::encode(node.signer.public_key()),
        "partner_key": hex::encode(partner.signer.public_key()),
        "terms_hash": hex::encode(&mine[1 + 16 + 32..][..32]),
        "my_receipt": hex::encode(mine),
        "partner_receipt": hex::encode(theirs),
        "result_salt": hex::encode([0; 32]),
    });
    ReceiptFile::parse(&document.to_string()).unwrap()
}

/// Checks a node's recording of a run, of which every frame counts once.
pub fn audited(
    node: &TestNode,
    partner: &TestNode,
    run: &str,
    mode: &str,
    context: &str,
) -> FramesChecked {
    let path = recording::path(node.directory.path(), PARTNERSHIP, run);
    let verdict = receipts(node, partner, run, mode)
        .verify_frames(
            &node.signer.public_key(),
            &partner.signer.public_key(),
            std::fs::File::open(path).unwrap(),
        )
        .unwrap();
    assert_eq!(verdict.problems, [""; 0], "{context}");
    let checked = verdict.frames.unwrap();
    let statement = verdict.statement.unwrap();
    let frames = statement.mine.frames + statement.theirs.frames;
    assert_eq!(checked.frames, frames, "{context}");
    checked
}
