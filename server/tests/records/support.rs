//! A node's record, engagement and program services on a loopback socket, called as any role.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::result_large_err, reason = "tonic's Status is large")]

use std::sync::Arc;

use overlap_proto::v1::{
    self, engagement_service_client::EngagementServiceClient,
    engagement_service_server::EngagementServiceServer,
    program_intelligence_service_client::ProgramIntelligenceServiceClient,
    program_intelligence_service_server::ProgramIntelligenceServiceServer,
    program_service_client::ProgramServiceClient, program_service_server::ProgramServiceServer,
    record::Content, record_service_client::RecordServiceClient,
    record_service_server::RecordServiceServer,
};
use overlap_server::{
    auth::{Caller, Role},
    clock::MockClock,
    engagement::Engagement,
    program::{Intelligence, ProgramNumbers, usage::Usage},
    records::Records,
    storage::Store,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Server},
};

/// Says who calls, in place of a token.
#[derive(Clone)]
pub(crate) struct As {
    role: Option<Role>,
    user: String,
    partner: Option<String>,
}

impl Interceptor for As {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let mut put = |key: &'static str, value: &str| {
            let value = MetadataValue::try_from(value).expect("plain text");
            request.metadata_mut().insert(key, value);
        };
        if let Some(role) = self.role {
            put("role", role.name());
            put("user", &self.user);
        }
        if let Some(partner) = &self.partner {
            put("partner", partner);
        }
        Ok(request)
    }
}

fn authenticate(mut request: Request<()>) -> Result<Request<()>, Status> {
    let text = |key: &str| {
        let value = request.metadata().get(key)?;
        Some(value.to_str().expect("plain text").to_owned())
    };
    if let Some(role) = text("role") {
        let caller = Caller {
            // One token a user.
            token_id: text("user").unwrap_or_default(),
            user: text("user").unwrap_or_default(),
            role: Role::from_name(&role).expect("a role"),
            partner: text("partner"),
        };
        request.extensions_mut().insert(caller);
    }
    Ok(request)
}

pub(crate) type Link = InterceptedService<Channel, As>;

/// A running node.
pub(crate) struct Node {
    pub(crate) clock: MockClock,
    pub(crate) store: Store,
    channel: Channel,
    _directory: tempfile::TempDir,
}

impl Node {
    /// A node whose clock shows `now`.
    pub(crate) async fn start(now: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let clock = MockClock::new(now.parse().expect("a time"));
        let shared = Arc::new(clock.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let usage = Usage::new(store.clone(), shared.clone());
        let server = Server::builder()
            .add_service(RecordServiceServer::with_interceptor(
                Records::new(store.clone(), shared.clone()),
                authenticate,
            ))
            .add_service(EngagementServiceServer::with_interceptor(
                Engagement::new(store.clone(), shared.clone(), usage.clone()),
                authenticate,
            ))
            .add_service(ProgramServiceServer::with_interceptor(
                ProgramNumbers::new(store.clone(), shared.clone(), usage.clone()),
                authenticate,
            ))
            .add_service(ProgramIntelligenceServiceServer::with_interceptor(
                Intelligence::new(store.clone(), shared, usage),
                authenticate,
            ));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Channel::from_shared(format!("http://{address}"))
            .expect("an address")
            .connect_lazy();
        Self {
            clock,
            store,
            channel,
            _directory: directory,
        }
    }

    fn link(&self, role: Option<Role>, user: &str, partner: Option<&str>) -> Link {
        InterceptedService::new(
            self.channel.clone(),
            As {
                role,
                user: user.to_owned(),
                partner: partner.map(str::to_owned),
            },
        )
    }

    pub(crate) fn records(&self, role: Role) -> RecordServiceClient<Link> {
        RecordServiceClient::new(self.link(Some(role), "user", None))
    }

    pub(crate) fn engagement(&self, role: Role) -> EngagementServiceClient<Link> {
        EngagementServiceClient::new(self.link(Some(role), "user", own(role)))
    }

    pub(crate) fn program(&self, role: Role) -> ProgramServiceClient<Link> {
        ProgramServiceClient::new(self.link(Some(role), "user", own(role)))
    }

    pub(crate) fn program_of(&self, partner: &str) -> ProgramServiceClient<Link> {
        ProgramServiceClient::new(self.link(Some(Role::Partner), "their user", Some(partner)))
    }

    pub(crate) fn intelligence(
        &self,
        role: Role,
        user: &str,
    ) -> ProgramIntelligenceServiceClient<Link> {
        ProgramIntelligenceServiceClient::new(self.link(Some(role), user, own(role)))
    }

    pub(crate) fn anonymous(&self) -> Link {
        self.link(None, "", None)
    }

    /// Takes records in, in one call.
    pub(crate) async fn ingest(
        &self,
        records: Vec<v1::Record>,
    ) -> Result<v1::IngestRecordsResponse, Status> {
        let messages: Vec<_> = records
            .chunks(1000)
            .map(|records| v1::IngestRecordsRequest {
                records: records.to_vec(),
                last: false,
            })
            .chain([v1::IngestRecordsRequest {
                records: Vec::new(),
                last: true,
            }])
            .collect();
        let answer = self
            .records(Role::Admin)
            .ingest_records(futures::stream::iter(messages))
            .await?;
        Ok(answer.into_inner())
    }

    /// Takes a file in, in chunks of a few bytes.
    pub(crate) async fn import(
        &self,
        file_name: &str,
        format: v1::RecordFileFormat,
        kind: v1::RecordKind,
        contents: &str,
    ) -> Result<v1::ImportRecordsResponse, Status> {
        self.import_bytes(file_name, format, kind, contents.as_bytes())
            .await
    }

    pub(crate) async fn import_bytes(
        &self,
        file_name: &str,
        format: v1::RecordFileFormat,
        kind: v1::RecordKind,
        contents: &[u8],
    ) -> Result<v1::ImportRecordsResponse, Status> {
        use v1::import_records_request::Part;
        let header = Part::Header(v1::ImportRecordsHeader {
            file_name: file_name.to_owned(),
            format: format as i32,
            kind: kind as i32,
        });
        let chunks = contents.chunks(7).map(|chunk| Part::Chunk(chunk.to_vec()));
        let parts: Vec<_> = std::iter::once(header)
            .chain(chunks)
            .map(|part| v1::ImportRecordsRequest {
                part: Some(part),
                last: false,
            })
            .chain([v1::ImportRecordsRequest {
                part: None,
                last: true,
            }])
            .collect();
        let answer = self
            .records(Role::Admin)
            .import_records(futures::stream::iter(parts))
            .await?;
        Ok(answer.into_inner())
    }
}

/// Role PARTNER is partner "p1" in tests.
fn own(role: Role) -> Option<&'static str> {
    (role == Role::Partner).then_some("p1")
}

pub(crate) fn time(text: &str) -> prost_types::Timestamp {
    let time: jiff::Timestamp = text.parse().expect("a time");
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

/// Midnight UTC.
pub(crate) fn day(text: &str) -> Option<prost_types::Timestamp> {
    Some(time(&format!("{text}T00:00:00Z")))
}

pub(crate) fn euros(units: i64) -> Option<v1::Money> {
    money(units, "EUR")
}

pub(crate) fn money(units: i64, currency: &str) -> Option<v1::Money> {
    Some(v1::Money {
        currency_code: currency.to_owned(),
        units,
        nanos: 0,
    })
}

pub(crate) fn record(id: &str, content: Content) -> v1::Record {
    v1::Record {
        id: id.to_owned(),
        updated_at: day("2026-01-01"),
        deleted: false,
        content: Some(content),
    }
}

/// A page view.
pub(crate) fn view(id: &str, partner: &str, user: &str, at: &str) -> v1::Record {
    event(id, partner, user, at, v1::PortalEventKind::PageView, "", "")
}

pub(crate) fn event(
    id: &str,
    partner: &str,
    user: &str,
    at: &str,
    kind: v1::PortalEventKind,
    room: &str,
    resource: &str,
) -> v1::Record {
    record(
        id,
        Content::PortalEvent(v1::PortalEventRecord {
            partner: partner.to_owned(),
            user: user.to_owned(),
            at: Some(time(at)),
            kind: kind as i32,
            room: room.to_owned(),
            resource: resource.to_owned(),
        }),
    )
}

pub(crate) fn portal_user(id: &str, partner: &str) -> v1::Record {
    record(
        id,
        Content::PortalUser(v1::PortalUserRecord {
            partner: partner.to_owned(),
            ..Default::default()
        }),
    )
}

pub(crate) fn profile(id: &str, kind: v1::PartnerType, enrolled: &str) -> v1::Record {
    profile_with(id, kind, enrolled, |_| {})
}

pub(crate) fn profile_with(
    id: &str,
    kind: v1::PartnerType,
    enrolled: &str,
    change: impl FnOnce(&mut v1::PartnerProfileRecord),
) -> v1::Record {
    let mut profile = v1::PartnerProfileRecord {
        name: format!("Partner {id}"),
        r#type: kind as i32,
        enrolled_at: day(enrolled),
        ..Default::default()
    };
    change(&mut profile);
    record(id, Content::PartnerProfile(profile))
}

/// An open, direct deal of 100 EUR opened on 2026-01-05, changed.
pub(crate) fn deal(id: &str, change: impl FnOnce(&mut v1::DealRecord)) -> v1::Record {
    let mut deal = v1::DealRecord {
        amount: euros(100),
        origination: v1::DealOrigination::Direct as i32,
        r#type: v1::DealType::New as i32,
        opened_at: day("2026-01-05"),
        outcome: v1::DealOutcome::Open as i32,
        ..Default::default()
    };
    change(&mut deal);
    record(id, Content::Deal(deal))
}

impl Node {
    /// Days `first` to `last` in UTC.
    pub(crate) fn days(first: &str, last: &str) -> Option<v1::EngagementFilter> {
        Some(v1::EngagementFilter {
            range: Some(v1::engagement_filter::Range::DateRange(v1::DateRange {
                first_day: first.to_owned(),
                last_day: last.to_owned(),
            })),
            ..Default::default()
        })
    }
}

/// P = [start, end), midnights UTC.
pub(crate) fn period(start: &str, end: &str) -> Option<v1::ProgramFilter> {
    Some(v1::ProgramFilter {
        period: Some(v1::program_filter::Period::Interval(v1::TimeInterval {
            start: day(start),
            end: day(end),
        })),
        ..Default::default()
    })
}

/// The stable reason of an error.
pub(crate) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// Field and description of each violation of an error.
pub(crate) fn violations(status: &Status) -> Vec<(String, String)> {
    use tonic_types::StatusExt as _;
    status
        .get_details_bad_request()
        .map(|request| request.field_violations)
        .unwrap_or_default()
        .into_iter()
        .map(|violation| (violation.field, violation.description))
        .collect()
}
