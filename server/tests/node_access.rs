//! Tokens and who sees what (K-27, I-13; the table of roles is in api_contract.rs), and what a node says when it cannot start.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod node_support;

use jiff::SignedDuration;
use node_support::{TestNode, eventually, pair, reason};
use overlap_proto::v1::{
    CreateTokenRequest, CreateTokenResponse, GetNodeRequest, GetPartnershipRequest,
    GetScorecardRequest, ListAuditEventsRequest, ListPartnershipsRequest, ListTokensRequest,
    RevokePartnershipRequest, RevokeTokenRequest, Role, admin_service_client::AdminServiceClient,
    partnership_service_client::PartnershipServiceClient,
    program_service_client::ProgramServiceClient,
};
use overlap_server::{
    error::Reason,
    node::{self, InitOptions, doctor},
    serve,
    storage::Store,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

async fn token(node: &TestNode, role: Role, partner: &str) -> CreateTokenResponse {
    node.admin()
        .await
        .create_token(CreateTokenRequest {
            user: format!("{role:?}"),
            role: role.into(),
            partner: partner.to_owned(),
            valid_hours: 0,
        })
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_anonymous_callers_reach_health_and_reflection_only() {
    let (a, _b) = pair().await;
    let mut unknown = AdminServiceClient::new(a.api_as("overlap_wrong").await);
    let status = unknown.get_node(GetNodeRequest {}).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unauthenticated, "UNAUTHENTICATED")
    );
    let mut bare = AdminServiceClient::new(a.channel().await);
    let status = bare.get_node(GetNodeRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut health = HealthClient::new(a.channel().await);
    for service in ["", "overlap.v1.SharingService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let serving = health.check(request).await.unwrap().into_inner();
        assert_eq!(serving.status, 1, "{service}");
    }
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(
            a.channel().await,
        );
    let list = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(
                String::new(),
            ),
        ),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(list))
        .await
        .unwrap()
        .into_inner();
    let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
    assert!(answer.contains("overlap.v1.PartnershipService"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn k27_a_partner_user_sees_its_own_company_only() {
    let (a, _b) = pair().await;
    let c = TestNode::start("Initech").await;
    c.accept(&a.invite().await).await.unwrap();
    let secret = token(&a, Role::Partner, "Globex").await.secret;
    let mut partners = PartnershipServiceClient::new(a.api_as(&secret).await);
    let listed = partners
        .list_partnerships(ListPartnershipsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .partnerships;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].organization, "Globex");
    // What it may not know of is answered exactly like what does not exist.
    let mut refusal = async |partner: &str| {
        let request = GetPartnershipRequest {
            partner: partner.to_owned(),
        };
        let status = partners.get_partnership(request).await.unwrap_err();
        (status.code(), status.message().replace(partner, "X"))
    };
    let (hidden, missing) = (refusal("Initech").await, refusal("Nobody").await);
    assert_eq!(hidden, missing);
    assert_eq!(hidden.0, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_expire_and_are_revoked() {
    let a = TestNode::start("Acme").await;
    let mut admin = a.admin().await;
    for (role, partner) in [
        (Role::Unspecified, ""),
        (Role::Partner, ""),
        (Role::Member, "Globex"),
    ] {
        let request = CreateTokenRequest {
            user: "u".to_owned(),
            role: role.into(),
            partner: partner.to_owned(),
            valid_hours: 0,
        };
        let status = admin.create_token(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_ARGUMENT", "{role:?}");
    }
    let short = admin
        .create_token(CreateTokenRequest {
            user: "u".to_owned(),
            role: Role::Member.into(),
            partner: String::new(),
            valid_hours: 1,
        })
        .await
        .unwrap()
        .into_inner();
    let mut as_short = AdminServiceClient::new(a.api_as(&short.secret).await);
    as_short.get_node(GetNodeRequest {}).await.unwrap();
    a.clock.advance(SignedDuration::from_hours(1));
    let status = as_short.get_node(GetNodeRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);

    let other = token(&a, Role::Admin, "").await;
    let listed = admin
        .list_tokens(ListTokensRequest {
            page_size: 2,
            page_token: String::new(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.tokens.len(), 2);
    let rest = admin
        .list_tokens(ListTokensRequest {
            page_size: 2,
            page_token: listed.next_page_token,
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((rest.tokens.len(), rest.next_page_token.as_str()), (1, ""));
    let revoke = |id: &str| RevokeTokenRequest { id: id.to_owned() };
    let id = other.token.unwrap().id;
    for _ in 0..2 {
        let revoked = admin.revoke_token(revoke(&id)).await.unwrap().into_inner();
        assert!(revoked.token.unwrap().revoked_at.is_some());
    }
    let mut as_other = AdminServiceClient::new(a.api_as(&other.secret).await);
    let status = as_other.get_node(GetNodeRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    // Nobody locks everybody out.
    let first = listed.tokens[0].id.clone();
    let status = admin.revoke_token(revoke(&first)).await.unwrap_err();
    assert_eq!(reason(&status), "FAILED_PRECONDITION");
}

/// The end of a partnership ends what its users may see, whichever side ends it (P-01, Z-06).
#[tokio::test(flavor = "multi_thread")]
async fn p01_z06_tokens_of_a_partners_users_end_with_the_partnership() {
    let (a, b) = pair().await;
    let c = TestNode::start("Initech").await;
    c.accept(&a.invite().await).await.unwrap();
    let theirs = [
        token(&a, Role::Partner, "Globex").await,
        token(&b, Role::Partner, "Acme").await,
    ];
    let others = [
        token(&a, Role::Partner, "Initech").await,
        token(&b, Role::Member, "").await,
    ];
    let calls = async |node: &TestNode, token: &CreateTokenResponse| {
        let mut admin = AdminServiceClient::new(node.api_as(&token.secret).await);
        admin.get_node(GetNodeRequest {}).await.err()
    };
    for ((node, token), other) in [&a, &b].into_iter().zip(&theirs).zip(&others) {
        assert!(calls(node, token).await.is_none());
        assert!(calls(node, other).await.is_none());
    }
    let request = RevokePartnershipRequest {
        partner: "Globex".to_owned(),
    };
    let mut partners = a.partners().await;
    partners.revoke_partnership(request).await.unwrap();
    let refused = calls(&a, &theirs[0]).await.unwrap();
    assert_eq!(reason(&refused), "UNAUTHENTICATED");
    eventually("the other side's token ends", || async {
        calls(&b, &theirs[1])
            .await
            .is_some_and(|status| reason(&status) == "UNAUTHENTICATED")
    })
    .await;
    for (((node, token), other), actor) in [&a, &b]
        .into_iter()
        .zip(&theirs)
        .zip(&others)
        .zip(["tok_", "partner:"])
    {
        assert!(calls(node, other).await.is_none());
        let id = &token.token.as_ref().unwrap().id;
        let events = node.audit_events().await;
        let ended: Vec<_> = events
            .iter()
            .filter(|event| event.action == "token.revoked")
            .collect();
        assert_eq!(ended.len(), 1);
        assert_eq!(&ended[0].details["token"], id);
        assert!(ended[0].actor.starts_with(actor), "{:?}", ended[0]);
    }
    // As an older version left it.
    let mut a = a;
    let work =
        |tx: &rusqlite::Transaction<'_>| Ok(tx.execute("UPDATE tokens SET revoked_us = NULL", [])?);
    a.node().store.write(work).await.unwrap();
    a.restart().await;
    let mut program = ProgramServiceClient::new(a.api_as(&theirs[0].secret).await);
    let scorecard = program.get_scorecard(GetScorecardRequest::default());
    let refused = scorecard.await.unwrap_err();
    assert_eq!(reason(&refused), "PARTNERSHIP_NOT_CONNECTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_pages_and_names_actors() {
    let (a, _b) = pair().await;
    let mut admin = a.admin().await;
    let mut actions = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = admin
            .list_audit_events(ListAuditEventsRequest {
                page_size: 2,
                page_token,
                partner: String::new(),
            })
            .await
            .unwrap()
            .into_inner();
        assert!(page.events.len() <= 2);
        actions.extend(
            page.events
                .into_iter()
                .map(|event| (event.sequence, event.action)),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let names: Vec<_> = actions.iter().map(|(_, action)| action.as_str()).collect();
    assert_eq!(
        names,
        [
            "partnership.connected",
            "partnership.invited",
            "token.created",
            "node.initialised"
        ]
    );
    assert!(actions.is_sorted_by(|before, after| before.0 > after.0));
}

/// K-38, also where the node stops right after the calls.
#[tokio::test(flavor = "multi_thread")]
async fn k38_use_of_the_dashboard_outlives_a_stop() {
    let mut node = TestNode::start("Acme").await;
    let mut program = ProgramServiceClient::new(node.api().await);
    for _ in 0..2 {
        let scorecard = program.get_scorecard(GetScorecardRequest::default());
        scorecard.await.unwrap();
    }
    node.restart().await;
    let events = node.audit_events().await;
    let viewed: Vec<_> = events
        .iter()
        .filter(|event| event.action == "dashboard.viewed")
        .map(|event| (&*event.details["view"], &*event.details["calls"]))
        .collect();
    assert_eq!(viewed, [("GetScorecard", "2")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_survive_a_restart_and_secrets_are_nowhere() {
    let mut a = TestNode::start("Acme").await;
    let made = token(&a, Role::Member, "").await;
    a.restart().await;
    AdminServiceClient::new(a.api_as(&made.secret).await)
        .get_node(GetNodeRequest {})
        .await
        .unwrap();
    a.stop().await;
    let store = std::fs::read(a.path().join(overlap_server::storage::FILE_NAME)).unwrap();
    let secret = made.secret.trim_start_matches("overlap_").as_bytes();
    assert!(!store.windows(secret.len()).any(|window| window == secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_one_clear_line() {
    let a = TestNode::start("Acme").await;
    let directory = tempfile::tempdir().unwrap();
    let options = InitOptions {
        organization: "Globex".to_owned(),
        exchange_listen: Some("127.0.0.1:0".parse().unwrap()),
        api_listen: Some(a.config.api.listen),
        ..InitOptions::default()
    };
    node::init(directory.path(), options, &a.clock).unwrap();
    let clock = std::sync::Arc::new(a.clock.clone());
    let error = serve::start(directory.path(), clock.clone())
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::PortInUse);
    assert!(
        error.message().contains(&a.config.api.listen.to_string()),
        "{error}"
    );
    assert_eq!(error.message().lines().count(), 1);
    // A failed start leaves nothing locked, and a running node keeps its directory.
    let again = serve::start(directory.path(), clock.clone())
        .await
        .err()
        .unwrap();
    assert_eq!(again.reason(), Reason::PortInUse);
    let locked = serve::start(a.path(), clock).await.err().unwrap();
    assert_eq!(locked.reason(), Reason::StoreLocked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_schema_is_refused() {
    let mut a = TestNode::start("Acme").await;
    a.stop().await;
    Store::open(a.path())
        .unwrap()
        .write_blocking(|tx| Ok(tx.pragma_update(None, "user_version", 9999)?))
        .unwrap();
    let clock = std::sync::Arc::new(a.clock.clone());
    let error = serve::start(a.path(), clock).await.err().unwrap();
    assert_eq!(error.reason(), Reason::StoreSchemaNewer);
    let findings = doctor::examine(a.path(), &a.clock);
    let store = findings
        .iter()
        .find(|finding| finding.check == "store")
        .unwrap();
    assert_eq!(store.health, doctor::Health::Bad);
    assert!(store.detail.contains("newer version"), "{store:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_what_is_wrong() {
    let a = TestNode::start("Acme").await;
    let bad = |findings: &[doctor::Finding]| -> Vec<_> {
        findings
            .iter()
            .filter(|finding| finding.health == doctor::Health::Bad)
            .map(|finding| finding.check)
            .collect()
    };
    let findings = doctor::examine(a.path(), &a.clock);
    assert!(bad(&findings).is_empty(), "{findings:?}");
    assert!(
        findings
            .iter()
            .any(|finding| finding.check == "sealing" && finding.health == doctor::Health::Warning)
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let key = a.path().join("keys/tls.key");
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(bad(&doctor::examine(a.path(), &a.clock)), ["key files"]);
        let disk = findings.iter().find(|finding| finding.check == "disk");
        assert!(disk.unwrap().detail.contains(" GiB free"), "{findings:?}");
    }
    // Any certificate will do for the API's.
    let config = std::fs::read_to_string(a.path().join("overlapd.toml")).unwrap();
    let file = |name: &str| a.path().join("keys").join(name).display().to_string();
    let tls = format!(
        "[api]\ntls_certificate_file = {:?}\ntls_key_file = {:?}\n",
        file("tls.crt"),
        file("tls.key")
    );
    assert!(config.contains("[api]\n"));
    std::fs::write(
        a.path().join("overlapd.toml"),
        config.replace("[api]\n", &tls),
    )
    .unwrap();
    let certificates = |findings: &[doctor::Finding]| -> Vec<_> {
        findings
            .iter()
            .filter(|finding| finding.check.contains("certificate"))
            .map(|finding| (finding.check, finding.health))
            .collect()
    };
    let both = |health| [("certificate", health), ("api certificate", health)];
    for (days, health) in [
        (0, doctor::Health::Good),
        (365 * 5 - 10, doctor::Health::Warning),
        (366, doctor::Health::Bad),
    ] {
        a.clock.advance(SignedDuration::from_hours(24 * days));
        let findings = doctor::examine(a.path(), &a.clock);
        assert_eq!(certificates(&findings), both(health), "{findings:?}");
    }
    std::fs::write(a.path().join("overlapd.toml"), "organisation = 1").unwrap();
    assert!(bad(&doctor::examine(a.path(), &a.clock)).contains(&"configuration"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_when_a_node_stops() {
    let mut a = TestNode::start("Acme").await;
    a.config.limits.drain_timeout = overlap_server::config::Span::seconds(2);
    let mut health = HealthClient::new(a.channel().await);
    let mut watch = health
        .watch(HealthCheckRequest {
            service: "overlap.v1.AdminService".to_owned(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    let node = std::sync::Arc::clone(a.node());
    node.stop();
    let next = watch.message().await;
    assert!(matches!(next, Ok(Some(answer)) if answer.status == 2));
    drop(watch);
    a.stop().await;
    eventually("the port is free", || async {
        std::net::TcpListener::bind(a.config.api.listen).is_ok()
    })
    .await;
}
