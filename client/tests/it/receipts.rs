//! Z-09: receipts in a file, verified without any node. Whatever is changed is named.

use std::{fs, path::Path};

use overlap_client::ReceiptFile;
use overlap_crypto::{
    context::{OrganizationId, RunId, SessionId},
    handshake::Mode,
    plan::Role,
    receipt::{Receipt, ReceiptSide, SignedReceipt},
    signature::Signer as _,
};
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

use crate::{command, outcome};

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn side(seed: u8) -> ReceiptSide {
    ReceiptSide {
        organization: OrganizationId::of_key(&key(seed).public_key()),
        epoch: 7,
        public_key: [seed; 32],
        list_queries: 10,
        count_queries: 20,
        tags: 30,
        head: [seed; 32],
        frames: 40,
    }
}

/// The run of organisations 1 and 2, as 1 and 2 state it.
fn receipts() -> [Receipt; 2] {
    [(Role::Initiator, 5), (Role::Acceptor, 6)].map(|(signer, run_counter)| Receipt {
        signer,
        mode: Mode::Full,
        run: RunId([9; 16]),
        session: SessionId([8; 32]),
        terms: [7; 32],
        initiator: side(1),
        acceptor: side(2),
        run_counter,
        previous: [6; 32],
        result: [5; 32],
    })
}

fn file([mine, theirs]: &[SignedReceipt; 2]) -> Value {
    json!({
        "format": "overlap-receipt-1",
        "run": "run_1",
        "partner": "Globex",
        "started_at": "2026-03-01T12:00:00Z",
        "mode": if mine.receipt.mode == Mode::Full { "full" } else { "changes" },
        "my_key": hex::encode(key(1).public_key()),
        "partner_key": hex::encode(key(2).public_key()),
        "terms_hash": hex::encode(mine.receipt.terms),
        "my_receipt": hex::encode(mine.encode()),
        "partner_receipt": hex::encode(theirs.encode()),
        "result_salt": hex::encode([3; 32]),
    })
}

fn signed([mine, theirs]: [Receipt; 2]) -> [SignedReceipt; 2] {
    [mine.sign(&key(1)), theirs.sign(&key(2))]
}

fn problems(file: &Value) -> Vec<String> {
    let verdict = ReceiptFile::parse(&file.to_string())
        .unwrap()
        .verify(&key(1).public_key(), &key(2).public_key());
    assert_eq!(verdict.valid, verdict.problems.is_empty());
    assert_eq!(verdict.valid, verdict.statement.is_some());
    verdict.problems
}

#[test]
fn z09_good_receipts_verify() {
    assert_eq!(problems(&file(&signed(receipts()))), [""; 0]);
}

/// No bit of either receipt can change without its signer's signature, or form, failing.
#[test]
fn z09_every_changed_byte_is_noticed_and_its_signer_named() {
    let good = signed(receipts());
    for (place, whose) in [("my_receipt", "my"), ("partner_receipt", "the partner's")] {
        let bytes = hex::decode(file(&good)[place].as_str().unwrap()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let mut document = file(&good);
            document[place] = hex::encode(&changed).into();
            let found = problems(&document);
            assert!(
                found.iter().any(|problem| problem.starts_with(whose)),
                "{place}, byte {at}: {found:?}"
            );
        }
    }
}

/// A signer that states something else than its partner, and signs it: the statement is named.
#[test]
fn z09_every_statement_that_differs_is_named() {
    type Change = fn(&mut Receipt);
    let changes: [(&str, Change); 18] = [
        ("run", |receipt| receipt.run.0[0] ^= 1),
        ("mode", |receipt| receipt.mode = Mode::Delta),
        ("session id", |receipt| receipt.session.0[0] ^= 1),
        ("terms hash", |receipt| receipt.terms[0] ^= 1),
        ("initiator's epoch", |receipt| receipt.initiator.epoch += 1),
        ("initiator's VOPRF key", |receipt| {
            receipt.initiator.public_key[0] ^= 1;
        }),
        ("initiator's list queries", |receipt| {
            receipt.initiator.list_queries += 1;
        }),
        ("initiator's count queries", |receipt| {
            receipt.initiator.count_queries += 1;
        }),
        ("initiator's tags", |receipt| receipt.initiator.tags += 1),
        ("initiator's transcript root", |receipt| {
            receipt.initiator.head[0] ^= 1;
        }),
        ("initiator's number of frames", |receipt| {
            receipt.initiator.frames += 1;
        }),
        ("acceptor's epoch", |receipt| receipt.acceptor.epoch += 1),
        ("acceptor's VOPRF key", |receipt| {
            receipt.acceptor.public_key[0] ^= 1;
        }),
        ("acceptor's list queries", |receipt| {
            receipt.acceptor.list_queries += 1;
        }),
        ("acceptor's count queries", |receipt| {
            receipt.acceptor.count_queries += 1;
        }),
        ("acceptor's tags", |receipt| receipt.acceptor.tags += 1),
        ("acceptor's transcript root", |receipt| {
            receipt.acceptor.head[0] ^= 1;
        }),
        ("acceptor's number of frames", |receipt| {
            receipt.acceptor.frames += 1;
        }),
    ];
    for (name, change) in changes {
        for of in 0..2 {
            let mut receipts = receipts();
            change(&mut receipts[of]);
            let found = problems(&file(&signed(receipts)));
            assert_eq!(found, [format!("the receipts differ: {name}")], "{of}");
        }
    }
    // What is each signer's own may differ.
    for own in [
        (|receipt: &mut Receipt| receipt.run_counter += 1) as Change,
        |receipt| receipt.previous[0] ^= 1,
        |receipt| receipt.result[0] ^= 1,
    ] {
        let mut receipts = receipts();
        own(&mut receipts[1]);
        assert_eq!(problems(&file(&signed(receipts))), [""; 0]);
    }
}

#[test]
fn z09_organisations_roles_and_keys_are_checked() {
    let other = "receipt was signed by another organisation than the one whose key was given";
    // The partner's statement names a third organisation as itself.
    let mut named = receipts();
    named[1].acceptor = side(3);
    named[1].acceptor.public_key = [2; 32];
    named[1].acceptor.head = [2; 32];
    assert_eq!(
        problems(&file(&signed(named))),
        [
            format!("the partner's {other}"),
            "the receipts differ: acceptor's organisation".to_owned()
        ]
    );
    // Both say that they are the initiator.
    let mut twice = receipts();
    twice[1].signer = Role::Initiator;
    let found = problems(&file(&signed(twice)));
    assert!(
        found.contains(&"both receipts were signed in the same role".to_owned()),
        "{found:?}"
    );
    // Signed with a key that is not the organisation's.
    let [mine, theirs] = receipts();
    let found = problems(&file(&[mine.sign(&key(1)), theirs.sign(&key(4))]));
    assert_eq!(found, ["the partner's signature does not verify"]);
    let found = problems(&file(&[mine.sign(&key(4)), theirs.sign(&key(2))]));
    assert_eq!(found, ["my signature does not verify"]);
    // The reader gives the keys the wrong way round.
    let verdict = ReceiptFile::parse(&file(&signed(receipts())).to_string())
        .unwrap()
        .verify(&key(2).public_key(), &key(1).public_key());
    let wrong = |whose: &str| {
        format!("wrong key: the file names another organisation key as {whose} than the one given")
    };
    assert_eq!(
        verdict.problems,
        [
            wrong("my"),
            wrong("the partner's"),
            format!("my {other}"),
            format!("the partner's {other}")
        ]
    );
}

#[test]
fn z09_the_rest_of_the_file_is_checked() {
    let good = file(&signed(receipts()));
    for (place, value, problem) in [
        (
            "terms_hash",
            json!("00"),
            "the file's terms hash is not that of my receipt",
        ),
        (
            "mode",
            json!("changes"),
            "the file's mode is not that of my receipt",
        ),
        (
            "result_salt",
            json!("0102"),
            "the result's salt is malformed",
        ),
        ("my_receipt", json!("zz"), "my receipt is malformed"),
        (
            "partner_receipt",
            json!(null),
            "the partner's receipt is missing",
        ),
    ] {
        let mut changed = good.clone();
        changed[place] = value;
        assert_eq!(problems(&changed), [problem]);
    }
}

fn verify(path: &Path, keys: [u8; 2]) -> std::process::Command {
    let [mine, theirs] = keys.map(|seed| hex::encode(key(seed).public_key()));
    command(&[
        "receipts",
        "verify",
        path.to_str().unwrap(),
        "--my-key",
        &mine,
        "--partner-key",
        &theirs,
    ])
}

/// A verifier of the receipts alone learns whether the run covered everything, from what both signed.
#[test]
fn z09_the_receipts_say_whether_the_run_matched_changes_only() {
    let mut delta = receipts();
    for receipt in &mut delta {
        receipt.mode = Mode::Delta;
    }
    let document = file(&signed(delta));
    let verdict = ReceiptFile::parse(&document.to_string())
        .unwrap()
        .verify(&key(1).public_key(), &key(2).public_key());
    assert!(verdict.valid && !verdict.statement.unwrap().full);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipt.json");
    fs::write(&path, document.to_string()).unwrap();
    let text = outcome(&mut verify(&path, [1, 2])).done();
    assert!(text.contains("run_1 (changes)"), "{text}");
}

/// Through the program, which calls no node here: none is configured.
#[test]
fn z09_the_program_succeeds_only_if_everything_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipt.json");
    fs::write(&path, file(&signed(receipts())).to_string()).unwrap();
    let text = outcome(&mut verify(&path, [1, 2])).done();
    assert!(text.starts_with("Both receipts are good"), "{text}");
    assert!(text.contains("10 list queries, 20 count queries, 30 tags, 40 frames"));
    let mut json = verify(&path, [1, 2]);
    let verdict: Value =
        serde_json::from_str(&outcome(json.args(["--output", "json"])).done()).unwrap();
    assert_eq!(verdict["valid"], true);
    assert_eq!(verdict["statement"]["session"], hex::encode([8; 32]));
    assert_eq!(verdict["statement"]["full"], true);

    let line = outcome(&mut verify(&path, [2, 1])).failed();
    assert!(line.contains("wrong key"), "{line}");
    assert!(line.ends_with("[RECEIPT_INVALID]"), "{line}");
    let mut changed = file(&signed(receipts()));
    changed["mode"] = json!(["full"]);
    for (content, problem) in [
        (String::new(), "not a file of receipts"),
        ("{}".to_owned(), "not a file of receipts"),
        (changed.to_string(), "not a file of receipts"),
    ] {
        fs::write(&path, content).unwrap();
        let line = outcome(&mut verify(&path, [1, 2])).failed();
        assert!(line.contains(problem), "{line}");
    }
    let line = outcome(&mut verify(&folder.path().join("none"), [1, 2])).failed();
    assert!(line.ends_with("[FILE_UNREADABLE]"), "{line}");
}
