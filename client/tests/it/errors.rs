//! Failures: one line, a stable reason, the right exit code.

use std::{collections::HashMap, fs};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::{Code, Status, transport::Identity};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    command,
    fake::{FakeNode, REQUEST_ID, TOKEN, status},
    outcome, overlap,
};

#[test]
fn p_01_a_refusal_has_its_sentence_and_reason() {
    let node = FakeNode::start();
    node.refuse(
        "get_matrix",
        status(
            Code::NotFound,
            "NOT_FOUND",
            "partnership \"Initech\" does not exist",
        ),
    );
    let outcome = overlap(&node, &["matrix", "Initech", "-o", "json"]);
    assert_eq!(outcome.stdout, "");
    assert_eq!(
        outcome.failed(),
        "error: partnership \"Initech\" does not exist [NOT_FOUND]"
    );
}

#[test]
fn p_01_a_refused_list_prints_no_half_document() {
    let node = FakeNode::start();
    node.refuse(
        "list_shared_customers",
        status(
            Code::FailedPrecondition,
            "PARTNERSHIP_NOT_CONNECTED",
            "the partnership is revoked",
        ),
    );
    for format in ["table", "json", "csv"] {
        let outcome = overlap(&node, &["shared", "Globex", "-o", format]);
        assert_eq!(outcome.stdout, "");
        assert_eq!(
            outcome.failed(),
            "error: the partnership is revoked [PARTNERSHIP_NOT_CONNECTED]"
        );
    }
}

#[test]
fn wrong_fields_follow_the_sentence_unless_it_names_them() {
    let node = FakeNode::start();
    let refuse = |message: &str| {
        let mut details =
            ErrorDetails::with_error_info("INVALID_ARGUMENT", "overlap", HashMap::new());
        details.set_bad_request(vec![
            FieldViolation::new("stages[0].id", "is empty"),
            FieldViolation::new("stages[1].ordinal", "is\ntaken"),
        ]);
        node.refuse(
            "upsert_stages",
            Status::with_error_details(Code::InvalidArgument, message, details),
        );
        overlap(&node, &["stages", "set", "Lead"]).failed()
    };
    assert_eq!(
        refuse("the stages are wrong"),
        "error: the stages are wrong [INVALID_ARGUMENT]: stages[0].id: is empty; stages[1].ordinal: is taken"
    );
    assert_eq!(
        refuse("stages[0].id: is empty"),
        "error: stages[0].id: is empty [INVALID_ARGUMENT]: stages[1].ordinal: is taken"
    );
}

#[test]
fn a_status_without_details_is_named_by_its_code() {
    let node = FakeNode::start();
    node.refuse("list_tokens", Status::data_loss(""));
    let line = overlap(&node, &["token", "list"]).failed();
    assert_eq!(line, "error: the node gives no explanation [DATA_LOSS]");
    node.refuse("list_tokens", Status::unimplemented(""));
    let line = overlap(&node, &["token", "list"]).failed();
    assert_eq!(
        line,
        "error: the node does not know this call: it is older or newer than this client [UNIMPLEMENTED]"
    );
}

#[test]
fn a_refusal_says_what_the_nodes_log_calls_the_call() {
    let node = FakeNode::start();
    let mut refusal = status(Code::Internal, "INTERNAL", "see the node's log");
    let metadata = refusal.metadata_mut();
    metadata.insert("x-request-id", REQUEST_ID.parse().unwrap());
    node.refuse("get_matrix", refusal);
    assert_eq!(
        overlap(&node, &["matrix", "Globex"]).failed(),
        "error: see the node's log [INTERNAL] (request id: req_5f3a)"
    );
}

#[test]
fn an_answer_without_its_content_is_refused() {
    let node = FakeNode::start();
    let line = overlap(&node, &["partner", "show", "Empty"]).failed();
    assert_eq!(
        line,
        "error: the node's answer lacks the partnership: is it an Overlap node of this version? [NODE_ANSWER_INVALID]"
    );
}

#[test]
fn a_node_that_is_not_there() {
    let node = FakeNode::start();
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("gone");
    let line = outcome(command(&["partner", "list", "--dir"]).arg(&missing)).failed();
    assert!(line.ends_with("[FILE_UNREADABLE]"), "{line}");
    let line = outcome(command(&["partner", "list", "--dir"]).arg(dir.path())).failed();
    assert!(
        line.contains("no node is running from this directory"),
        "{line}"
    );

    let address = node.address.clone();
    drop(node);
    let line = outcome(
        command(&["partner", "list", "--node", &format!("http://{address}")])
            .env("OVERLAP_TOKEN", TOKEN),
    )
    .failed();
    assert!(
        line.starts_with(&format!(
            "error: cannot reach the node at http://{address}: "
        )),
        "{line}"
    );
    assert!(line.ends_with("[NODE_UNREACHABLE]"), "{line}");
}

#[test]
fn a_wrong_token_is_refused_and_never_printed() {
    let node = FakeNode::start();
    let line = outcome(
        command(&[
            "partner",
            "list",
            "--node",
            &format!("http://{}", node.address),
        ])
        .env("OVERLAP_TOKEN", "hush-hush"),
    )
    .failed();
    assert_eq!(line, "error: no valid bearer token [UNAUTHENTICATED]");
}

#[test]
fn the_command_line_decides_before_the_environment() {
    let node = FakeNode::start();
    let dir = TempDir::new().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    let url = format!("http://{}", node.address);
    let by_environment = outcome(
        command(&["token", "list"])
            .env("OVERLAP_NODE", &url)
            .env("OVERLAP_TOKEN_FILE", &token),
    );
    by_environment.done();
    let by_arguments = outcome(
        command(&["--node", &url, "token", "list", "--token-file"])
            .arg(&token)
            .env("OVERLAP_DIR", "/nonexistent")
            .env("OVERLAP_TOKEN", "wrong"),
    );
    by_arguments.done();
}

#[test]
fn a_token_does_not_leave_the_machine_in_the_clear() {
    let line = outcome(
        command(&["token", "list", "--node", "http://192.0.2.1:1"]).env("OVERLAP_TOKEN", TOKEN),
    )
    .failed();
    assert!(
        line.contains("would carry the token in the clear beyond this machine"),
        "{line}"
    );
    assert!(line.ends_with("[CLIENT_CONFIG_INVALID]"), "{line}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &["matrix", "Globex"][..],
        &["matrix"],
        &["shared", "Globex", "--output", "xml"],
        &["nonsense"],
        &["partner"],
        &[],
        &[
            "token",
            "list",
            "--dir",
            "d",
            "--node",
            "http://127.0.0.1:1",
        ],
        &["token", "list", "--node", "http://127.0.0.1:1"],
        &["customers", "delete"],
        &["stages", "set"],
        &["target", "add", "Globex"],
    ] {
        let outcome = outcome(&mut command(arguments));
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn tls_trusts_the_given_authority_and_no_other() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let node = FakeNode::start_tls(Identity::from_pem(certificate.pem(), key.serialize_pem()));
    let dir = TempDir::new().unwrap();
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let port = node.address.rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}");
    let arguments = ["token", "list", "--node", &url];
    outcome(
        command(&arguments)
            .env("OVERLAP_TOKEN", TOKEN)
            .arg("--tls-ca")
            .arg(&ca),
    )
    .done();
    let line = outcome(command(&arguments).env("OVERLAP_TOKEN", TOKEN)).failed();
    assert!(line.contains("certificate"), "{line}");
    assert!(line.ends_with("[NODE_UNREACHABLE]"), "{line}");
}
