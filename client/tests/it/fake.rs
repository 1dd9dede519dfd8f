//! A node in this process.

use std::{
    collections::HashMap,
    fmt::Debug,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, stream};
use overlap_client::v1::{self, *};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::canned;

/// The token that the fake admits.
pub(crate) const TOKEN: &str = "let-me-in";

/// What the fake's log would call a call.
pub(crate) const REQUEST_ID: &str = "req_5f3a";

/// A listening node and its directory; it ends when dropped.
pub(crate) struct FakeNode {
    dir: TempDir,
    pub(crate) address: String,
    fake: Arc<Fake>,
    _runtime: Runtime,
}

#[derive(Default)]
pub(crate) struct Fake {
    calls: Mutex<Vec<(&'static str, String)>>,
    refusals: Mutex<HashMap<&'static str, Status>>,
    cancelled: Arc<AtomicBool>,
    watched: AtomicBool,
}

impl FakeNode {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    pub(crate) fn start_tls(identity: Identity) -> Self {
        Self::start_with(Some(identity))
    }

    fn start_with(identity: Option<Identity>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fake = Arc::new(Fake::default());
        let mut server = Server::builder();
        if let Some(identity) = identity {
            server = server
                .tls_config(ServerTlsConfig::new().identity(identity))
                .unwrap();
        }
        let router = server
            .add_service(admin_service_server::AdminServiceServer::from_arc(
                fake.clone(),
            ))
            .add_service(customer_service_server::CustomerServiceServer::from_arc(
                fake.clone(),
            ))
            .add_service(match_service_server::MatchServiceServer::from_arc(
                fake.clone(),
            ))
            .add_service(overlap_service_server::OverlapServiceServer::from_arc(
                fake.clone(),
            ))
            .add_service(
                partnership_service_server::PartnershipServiceServer::from_arc(fake.clone()),
            )
            .add_service(sharing_service_server::SharingServiceServer::from_arc(
                fake.clone(),
            ))
            .add_service(asset_service_server::AssetServiceServer::from_arc(
                fake.clone(),
            ))
            .add_service(
                attribution_service_server::AttributionServiceServer::from_arc(fake.clone()),
            )
            .add_service(change_service_server::ChangeServiceServer::from_arc(
                fake.clone(),
            ))
            .add_service(engagement_service_server::EngagementServiceServer::from_arc(fake.clone()))
            .add_service(program_service_server::ProgramServiceServer::from_arc(
                fake.clone(),
            ))
            .add_service(record_service_server::RecordServiceServer::from_arc(
                fake.clone(),
            ))
            .add_service(timeline_service_server::TimelineServiceServer::from_arc(
                fake.clone(),
            ));
        runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        std::fs::write(
            dir.path().join("run/addresses.json"),
            format!("{{\"api\": \"{address}\", \"exchange\": \"127.0.0.1:1\"}}"),
        )
        .unwrap();
        std::fs::write(dir.path().join("admin.token"), format!("{TOKEN}\n")).unwrap();
        Self {
            dir,
            address,
            fake,
            _runtime: runtime,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Refuses a call from now on.
    pub(crate) fn refuse(&self, call: &'static str, status: Status) {
        lock(&self.fake.refusals).insert(call, status);
    }

    /// The requests of a call so far.
    pub(crate) fn requests(&self, call: &str) -> Vec<String> {
        let calls = lock(&self.fake.calls);
        let of_call = calls.iter().filter(|(name, _)| *name == call);
        of_call.map(|(_, request)| request.clone()).collect()
    }

    /// Whether somebody watches a run or sends a file.
    pub(crate) fn is_watched(&self) -> bool {
        self.fake.watched.load(Ordering::SeqCst)
    }
}

/// A status as a node writes it.
pub(crate) fn status(code: Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "overlap", HashMap::new());
    Status::with_error_details(code, message, details)
}

pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) fn answers<T: Send + 'static>(answers: Vec<T>) -> Response<Answers<T>> {
    Response::new(Box::pin(stream::iter(answers.into_iter().map(Ok))))
}

pub(crate) fn nothing<T>(_: &Fake, _: impl Sized) -> Result<T, Status> {
    Err(status(Code::NotFound, "NOT_FOUND", "the fake has none"))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Fake {
    /// Notes a call, and refuses strangers and what is to be refused.
    pub(crate) fn enter<T: Debug>(
        &self,
        call: &'static str,
        request: Request<T>,
    ) -> Result<T, Status> {
        self.admit(call, &request)?;
        let request = request.into_inner();
        lock(&self.calls).push((call, format!("{request:?}")));
        Ok(request)
    }

    pub(crate) fn admit<T>(&self, call: &'static str, request: &Request<T>) -> Result<(), Status> {
        let header = request.metadata().get("authorization");
        if header.is_none_or(|header| header != &format!("Bearer {TOKEN}")) {
            return Err(status(
                Code::Unauthenticated,
                "UNAUTHENTICATED",
                "no valid bearer token",
            ));
        }
        if request.metadata().get("grpc-timeout").is_none() {
            return Err(Status::internal(format!("{call} has no deadline")));
        }
        lock(&self.refusals).get(call).cloned().map_or(Ok(()), Err)
    }

    /// Reads a stream of requests to its end.
    pub(crate) async fn drain<T: Debug>(
        &self,
        call: &'static str,
        request: Request<Streaming<T>>,
    ) -> Result<Vec<T>, Status> {
        self.admit(call, &request)?;
        let mut stream = request.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        lock(&self.calls).push((call, format!("{messages:?}")));
        Ok(messages)
    }
}

macro_rules! service {
    ($service:path {
        $($name:ident($request:ty) -> $response:ty = $answer:expr;)*
    } $($more:tt)*) => {
        #[tonic::async_trait]
        impl $service for Fake {
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                let request = self.enter(stringify!($name), request)?;
                let answer: fn(&Fake, $request) -> Result<$response, Status> = $answer;
                answer(self, request).map(Response::new)
            })*
            $($more)*
        }
    };
}

pub(crate) use service;

service! { admin_service_server::AdminService {
    get_node(GetNodeRequest) -> GetNodeResponse = |_, _| Ok(GetNodeResponse {
        organization: "Acme".to_owned(),
        version: "0.1.0".to_owned(),
        ..GetNodeResponse::default()
    });
    create_token(CreateTokenRequest) -> CreateTokenResponse = |_, _| Ok(CreateTokenResponse {
        token: Some(canned::token("t_1")),
        secret: "s3cret".to_owned(),
    });
    list_tokens(ListTokensRequest) -> ListTokensResponse = |_, _| Ok(ListTokensResponse {
        tokens: vec![canned::token("t_1")],
        next_page_token: String::new(),
    });
    revoke_token(RevokeTokenRequest) -> RevokeTokenResponse = |_, request| Ok(RevokeTokenResponse {
        token: Some(v1::Token { revoked_at: canned::at(9), ..canned::token(&request.id) }),
    });
    list_audit_events(ListAuditEventsRequest) -> ListAuditEventsResponse = |_, _| Ok(ListAuditEventsResponse {
        events: vec![AuditEvent {
            sequence: 1041,
            at: canned::at(0),
            actor: "t_1".to_owned(),
            action: "sharing.policy_set".to_owned(),
            partner: "p_1".to_owned(),
            details: HashMap::from([("state".to_owned(), "PROPOSED".to_owned())]),
        }],
        next_page_token: String::new(),
    });
} }

service! { customer_service_server::CustomerService {
    list_customers(ListCustomersRequest) -> ListCustomersResponse = |_, _| Ok(ListCustomersResponse {
        customers: vec![canned::customer("k1"), canned::customer("k2")],
        next_page_token: String::new(),
        total_size: 2,
    });
    list_stages(ListStagesRequest) -> ListStagesResponse = |_, _| Ok(ListStagesResponse {
        stages: canned::matrix().mine,
    });
    upsert_stages(UpsertStagesRequest) -> UpsertStagesResponse = |_, request| Ok(UpsertStagesResponse {
        stages: request.stages,
    });
}
    async fn upsert_customers(
        &self,
        request: Request<Streaming<UpsertCustomersRequest>>,
    ) -> Result<Response<UpsertCustomersResponse>, Status> {
        let messages = self.drain("upsert_customers", request).await?;
        let inserted = messages.iter().map(|message| message.customers.len() as u64).sum();
        Ok(Response::new(UpsertCustomersResponse { inserted, ..Default::default() }))
    }

    async fn delete_customers(
        &self,
        request: Request<Streaming<DeleteCustomersRequest>>,
    ) -> Result<Response<DeleteCustomersResponse>, Status> {
        let messages = self.drain("delete_customers", request).await?;
        let deleted = messages.iter().flat_map(|message| &message.ids).filter(|id| *id != "nobody").count();
        Ok(Response::new(DeleteCustomersResponse { deleted: deleted as u64 }))
    }

    async fn import_customers(
        &self,
        request: Request<Streaming<ImportCustomersRequest>>,
    ) -> Result<Response<ImportCustomersResponse>, Status> {
        use v1::import_customers_request::Part;
        self.admit("import_customers", &request)?;
        let mut stream = request.into_inner();
        self.watched.store(true, Ordering::SeqCst);
        let (mut header, mut bytes) = (None, 0);
        while let Some(message) = stream.message().await? {
            match message.part {
                Some(Part::Start(first)) if header.is_none() => header = Some(first),
                Some(Part::Chunk(chunk)) if header.is_some() => bytes += chunk.len(),
                None if message.last => {}
                _ => return Err(Status::invalid_argument("parts out of order")),
            }
        }
        lock(&self.calls).push(("import_customers", format!("{header:?} {bytes}")));
        Ok(Response::new(ImportCustomersResponse {
            inserted: 1500,
            updated: 2,
            unchanged: 3,
            deleted: 0,
            unusable_identifiers: HashMap::from([("UNPARSABLE".to_owned(), 4)]),
            field_columns: vec!["plan".to_owned()],
        }))
    }
}

type Updates = Answers<WatchRunResponse>;

service! { match_service_server::MatchService {
    start_run(StartRunRequest) -> StartRunResponse = |_, request| Ok(StartRunResponse {
        run: Some(canned::run(&format!("r_{}", request.partner.to_lowercase()), RunState::Planned)),
    });
    get_run(GetRunRequest) -> GetRunResponse = |_, request| Ok(GetRunResponse {
        run: Some(canned::done(&request.run)),
    });
    list_runs(ListRunsRequest) -> ListRunsResponse = |_, _| Ok(ListRunsResponse {
        runs: vec![canned::done("r_2"), canned::broken("r_1")],
        next_page_token: String::new(),
    });
    cancel_run(CancelRunRequest) -> CancelRunResponse = |fake, request| {
        fake.cancelled.store(true, Ordering::SeqCst);
        Ok(CancelRunResponse { run: Some(canned::evaluating(&request.run)) })
    };
}
    type WatchRunStream = Updates;

    async fn watch_run(&self, request: Request<WatchRunRequest>) -> Result<Response<Updates>, Status> {
        let again = !self.requests_are_empty("watch_run");
        let run = self.enter("watch_run", request)?.run;
        self.watched.store(true, Ordering::SeqCst);
        let updates = match run.as_str() {
            "r_slow" => return Ok(Response::new(self.until_cancelled(run))),
            "r_broken" => vec![Ok(canned::evaluating(&run)), Ok(canned::broken(&run))],
            "r_gone" => vec![Ok(canned::evaluating(&run)), Err(status(Code::NotFound, "NOT_FOUND", "the run is gone"))],
            // The connection breaks once.
            "r_shaky" if !again => vec![Ok(canned::evaluating(&run)), Err(Status::unavailable("restarting"))],
            _ => vec![Ok(canned::evaluating(&run)), Ok(canned::done(&run))],
        };
        let updates = updates.into_iter().map(|update| update.map(|run| WatchRunResponse { run: Some(run) }));
        let updates: Updates = Box::pin(stream::iter(updates.collect::<Vec<_>>()));
        let mut response = Response::new(updates);
        response.metadata_mut().insert("x-request-id", REQUEST_ID.parse().unwrap());
        Ok(response)
    }
}

impl Fake {
    fn requests_are_empty(&self, call: &str) -> bool {
        !lock(&self.calls).iter().any(|(name, _)| *name == call)
    }

    /// Updates of a run that ends only when it is cancelled.
    fn until_cancelled(&self, run: String) -> Updates {
        let cancelled = Arc::clone(&self.cancelled);
        Box::pin(stream::unfold(false, move |ended| {
            let (run, cancelled) = (run.clone(), Arc::clone(&cancelled));
            async move {
                if ended {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                let ended = cancelled.load(Ordering::SeqCst);
                let run = if ended {
                    canned::run(&run, RunState::Cancelled)
                } else {
                    canned::evaluating(&run)
                };
                Some((Ok(WatchRunResponse { run: Some(run) }), ended))
            }
        }))
    }
}

service! { overlap_service_server::OverlapService {
    get_matrix(GetMatrixRequest) -> GetMatrixResponse = |_, _| Ok(GetMatrixResponse {
        matrix: Some(canned::matrix()),
    });
    list_shared_customers(ListSharedCustomersRequest) -> ListSharedCustomersResponse = |_, request| {
        if request.partner == "Counts" {
            return Ok(ListSharedCustomersResponse {
                empty_reason: EmptyReason::CountsOnly.into(),
                ..ListSharedCustomersResponse::default()
            });
        }
        // Five customers, at most two a page.
        let start: usize = request.page_token.strip_prefix("after:").map_or(0, |number| number.parse().unwrap());
        let size = usize::try_from(request.page_size).unwrap().clamp(1, 2);
        let end = (start + size).min(5);
        Ok(ListSharedCustomersResponse {
            customers: (start + 1..=end).map(canned::shared).collect(),
            next_page_token: if end < 5 { format!("after:{end}") } else { String::new() },
            total_size: 5,
            ..ListSharedCustomersResponse::default()
        })
    };
    get_shared_customer(GetSharedCustomerRequest) -> GetSharedCustomerResponse = |_, _| {
        let mut customer = canned::shared(1);
        customer.my_fields.insert("owner".to_owned(), "Ada".to_owned());
        Ok(GetSharedCustomerResponse { customer: Some(customer) })
    };
    set_targets(SetTargetsRequest) -> SetTargetsResponse = |_, request| Ok(SetTargetsResponse {
        changed: request.ids.len() as u64,
    });
    explain_customer(ExplainCustomerRequest) -> ExplainCustomerResponse = |_, request| Ok(ExplainCustomerResponse {
        id: request.id,
        stage: "Customer".to_owned(),
        tier: Tier::List.into(),
        merged_ids: vec!["c1".to_owned(), "c1b".to_owned()],
        merged_stage: "Customer".to_owned(),
        keys: vec![
            KeyExplanation {
                key_type: KeyType::Email.into(),
                raw: "A@Example.com".to_owned(),
                normalized: Some("a@example.com".to_owned()),
                outcome: "USED".to_owned(),
                detail: String::new(),
                matched: Some(true),
            },
            KeyExplanation {
                key_type: KeyType::Phone.into(),
                raw: "12".to_owned(),
                outcome: "UNPARSABLE".to_owned(),
                detail: "not a telephone number".to_owned(),
                ..KeyExplanation::default()
            },
        ],
        conclusion: "It matched on its e-mail address.".to_owned(),
    });
} }

service! { partnership_service_server::PartnershipService {
    create_invite(CreateInviteRequest) -> CreateInviteResponse = |_, _| Ok(CreateInviteResponse {
        invite: "overlap-invite:abc".to_owned(),
        fingerprint: "ab12 cd34".to_owned(),
        expires_at: canned::at(3600),
        partnership: Some(canned::partnership("Globex")),
    });
    accept_invite(AcceptInviteRequest) -> AcceptInviteResponse = |_, _| Ok(AcceptInviteResponse {
        partnership: Some(canned::partnership("Globex")),
    });
    list_partnerships(ListPartnershipsRequest) -> ListPartnershipsResponse = |_, request| {
        // A page each, and an endless list for whoever does not look.
        let (name, next) = match request.page_token.as_str() {
            "" => ("Globex", "2"),
            "2" => ("東京商事", ""),
            _ => return Err(status(Code::InvalidArgument, "PAGE_TOKEN_INVALID", "not one of mine")),
        };
        Ok(ListPartnershipsResponse {
            partnerships: vec![canned::partnership(name)],
            next_page_token: next.to_owned(),
        })
    };
    get_partnership(GetPartnershipRequest) -> GetPartnershipResponse = |_, request| Ok(GetPartnershipResponse {
        partnership: (request.partner != "Empty").then(|| canned::partnership(&request.partner)),
    });
    revoke_partnership(RevokePartnershipRequest) -> RevokePartnershipResponse = |_, request| Ok(RevokePartnershipResponse {
        partnership: Some(Partnership {
            state: PartnershipState::Revoked.into(),
            ..canned::partnership(&request.partner)
        }),
    });
} }

service! { sharing_service_server::SharingService {
    set_policy(SetPolicyRequest) -> SetPolicyResponse = |_, request| Ok(SetPolicyResponse {
        sharing: Some(Sharing { mine: request.policy, ..canned::sharing(SharingState::Proposed) }),
    });
    approve_proposal(ApproveProposalRequest) -> ApproveProposalResponse = |_, _| Ok(ApproveProposalResponse {
        sharing: Some(canned::sharing(SharingState::Active)),
    });
    decline_proposal(DeclineProposalRequest) -> DeclineProposalResponse = |_, _| Ok(DeclineProposalResponse {
        sharing: Some(canned::sharing(SharingState::Declined)),
    });
    revoke_sharing(RevokeSharingRequest) -> RevokeSharingResponse = |_, _| Ok(RevokeSharingResponse {
        sharing: Some(canned::sharing(SharingState::Revoked)),
    });
    get_sharing(GetSharingRequest) -> GetSharingResponse = |_, _| Ok(GetSharingResponse {
        sharing: Some(canned::sharing(SharingState::AwaitingMyDecision)),
    });
} }
