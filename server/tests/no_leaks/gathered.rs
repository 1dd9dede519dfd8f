//! What must not be found, and where to look for it.

use super::*;

/// 32-byte group elements, 16-byte tags and claims, out of the frames.
pub(super) fn elements_and_tags() -> Vec<(String, Vec<u8>)> {
    use overlap_crypto::wire::{FrameKind, Message};
    let mut secrets = Vec::new();
    let mut push = |name: &str, bytes: &[u8]| secrets.push((name.to_owned(), bytes.to_vec()));
    for (kind, payload) in FRAMES.lock().unwrap().iter() {
        let Ok(kind) = FrameKind::from_code(*kind) else {
            continue;
        };
        match Message::decode(kind, payload).unwrap() {
            Message::Query(body) => {
                body.elements
                    .iter()
                    .for_each(|e| push("blinded element", e));
            }
            Message::Evaluation(body) => {
                body.elements
                    .iter()
                    .for_each(|e| push("evaluated element", e));
            }
            Message::Slice(body) => body.tags.iter().for_each(|tag| push("tag", tag)),
            Message::Claims(body) => body.claims.iter().for_each(|claim| push("claim", claim)),
            Message::CountElements(body) => {
                body.elements.iter().for_each(|e| push("count element", e));
            }
            Message::CountReturns(body) => body.hashes.iter().for_each(|h| push("return", h)),
            _ => {}
        }
    }
    secrets
}

/// Keys at rest, as the node reads them.
pub(super) fn keys(node: &TestNode) -> Vec<(String, Vec<u8>)> {
    let mut secrets = vec![(
        "administrator's token".to_owned(),
        node.admin_token().into_bytes(),
    )];
    for path in &overlap_server::identity::Identity::files(node.path())[..2] {
        let pkcs8 = std::fs::read(path).unwrap();
        // Ed25519 and P-256 alike: the private scalar or seed is 32 bytes, which the whole holds somewhere.
        for (at, window) in pkcs8[5..].windows(34).enumerate() {
            if window[..2] == [0x04, 0x20] {
                secrets.push((format!("{} at {at}", path.display()), window[2..].to_vec()));
            }
        }
    }
    let partner = std::fs::read_dir(node.path().join("epochs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let epoch = matching::keys::load(&partner.path(), &node.node().vault)
        .unwrap()
        .unwrap();
    secrets.push(("VOPRF key".to_owned(), epoch.secret.to_vec()));
    assert!(
        secrets.len() >= 4,
        "two identity keys, a token, an epoch key"
    );
    secrets
}

/// The bytes of every file under a directory.
pub(super) fn files(directory: &std::path::Path) -> Vec<u8> {
    let mut all = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.extend(std::fs::read(path).unwrap());
            }
        }
    }
    all
}

/// What monitoring reads.
pub(super) async fn metrics(node: &TestNode) -> String {
    let address = Addresses::read(node.path()).unwrap().metrics.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The receipts of a run as the API hands them out.
pub(super) async fn export_receipts(node: &TestNode, run: &str) -> Vec<u8> {
    let request = GetReceiptRequest {
        run: run.to_owned(),
    };
    let mut receipts = ReceiptServiceClient::new(node.api().await);
    let answer = receipts.get_receipt(request).await.unwrap().into_inner();
    let mut all = format!("{:?}", answer.receipt).into_bytes();
    for part in [answer.my_receipt, answer.their_receipt, answer.result_salt] {
        all.extend(part);
    }
    all
}
