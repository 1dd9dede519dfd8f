//! What the platform knows of the partner program: everything engagement and program numbers are made of.

mod mapping;

use std::path::PathBuf;

use futures::{
    FutureExt as _, future,
    stream::{self, Stream, StreamExt as _, TryStreamExt as _},
};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::io::AsyncRead;

use crate::{
    Client, Error, Page, PageRequest,
    convert::present,
    import::chunks,
    message::FromWire,
    paging::entries,
    transfer::{batches, ended},
    v1::{self, import_records_request::Part, record::Content},
};

pub use mapping::RecordColumns;

named_enum! {
    /// Record kind.
    RecordKind of v1::RecordKind {
        /// Lifecycle event.
        LifecycleEvent = "LIFECYCLE_EVENT",
        /// Partner profile.
        PartnerProfile = "PARTNER_PROFILE",
        /// Portal user.
        PortalUser = "PORTAL_USER",
        /// Deal.
        Deal = "DEAL",
        /// Referral.
        Referral = "REFERRAL",
        /// Managed account.
        ManagedAccount = "MANAGED_ACCOUNT",
        /// Portal event.
        PortalEvent = "PORTAL_EVENT",
        /// Resource.
        Resource = "RESOURCE",
        /// Room.
        Room = "ROOM",
        /// Asset.
        Asset = "ASSET",
        /// Incentive.
        Incentive = "INCENTIVE",
        /// Training.
        Training = "TRAINING",
        /// Certification.
        Certification = "CERTIFICATION",
        /// Channel cost.
        ChannelCost = "CHANNEL_COST",
        /// Target.
        Target = "TARGET",
        /// Partner analysis.
        PartnerAnalysis = "PARTNER_ANALYSIS",
        /// Campaign.
        Campaign = "CAMPAIGN",
        /// Ecosystem event.
        EcosystemEvent = "ECOSYSTEM_EVENT",
        /// View preference.
        ViewPreference = "VIEW_PREFERENCE",
    }
}

named_enum! {
    /// Partner type.
    PartnerType of v1::PartnerType {
        /// Referral.
        Referral = "REFERRAL",
        /// Reseller.
        Reseller = "RESELLER",
    }
}

named_enum! {
    /// Ecosystem event type.
    EcosystemEventType of v1::EcosystemEventType {
        /// Install.
        Install = "INSTALL",
        /// Uninstall.
        Uninstall = "UNINSTALL",
        /// Usage.
        Usage = "USAGE",
        /// Listing.
        Listing = "LISTING",
        /// Api.
        Api = "API",
        /// Support case.
        SupportCase = "SUPPORT_CASE",
        /// Payout.
        Payout = "PAYOUT",
    }
}

messages! {
    /// A person at a partner.
    PartnerContactRecord of v1::PartnerContactRecord {
        name: String,
        role: String,
        email: String,
    }

    /// A partner of the program.
    PartnerProfileRecord of v1::PartnerProfileRecord {
        name: String,
        r#type: Option<PartnerType>,
        segment: String,
        tier: String,
        /// E.g. "active", "onboarding", "paused".
        status: String,
        /// The partner's own lifecycle stage, e.g. "recruited", "producing".
        lifecycle_stage: String,
        regions: Vec<String>,
        subtype: String,
        verticals: Vec<String>,
        offerings: Vec<String>,
        specialisations: Vec<String>,
        business_model: String,
        enrolled_at: Option<Timestamp>,
        /// When the partner left the program.
        left_at: Option<Timestamp>,
        logo_uri: String,
        contacts: Vec<PartnerContactRecord>,
    }

    /// What taking records in changed.
    RecordsReport of v1::IngestRecordsResponse {
        /// Records that were new.
        inserted: u64,
        /// Records that replaced an older version.
        updated: u64,
        /// Duplicates, and versions older than what is stored.
        unchanged: u64,
    }
}

impl FromWire<v1::ImportRecordsResponse> for RecordsReport {
    fn from_wire(wire: v1::ImportRecordsResponse) -> Result<Self, Error> {
        Ok(Self {
            inserted: wire.inserted,
            updated: wire.updated,
            unchanged: wire.unchanged,
        })
    }
}

named_enum! {
    /// How a file of records is written.
    RecordFileFormat of v1::RecordFileFormat {
        /// A header, then one record a line.
        Csv = "csv",
        /// One record a line in the protobuf JSON mapping.
        Ndjson = "ndjson",
        /// Apache Parquet with the columns of CSV, by a node that was built with it; for imports alone.
        Parquet = "parquet",
    }
}

/// A record of any kind: the API's message, in JSON by the protobuf mapping with the names of the .proto files.
#[derive(Clone, Debug, PartialEq)]
pub struct Record(pub v1::Record);

impl Record {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        match &self.0.content {
            Some(Content::LifecycleEvent(_)) => RecordKind::LifecycleEvent,
            Some(Content::PartnerProfile(_)) => RecordKind::PartnerProfile,
            Some(Content::PortalUser(_)) => RecordKind::PortalUser,
            Some(Content::Deal(_)) => RecordKind::Deal,
            Some(Content::Referral(_)) => RecordKind::Referral,
            Some(Content::ManagedAccount(_)) => RecordKind::ManagedAccount,
            Some(Content::PortalEvent(_)) => RecordKind::PortalEvent,
            Some(Content::Resource(_)) => RecordKind::Resource,
            Some(Content::Room(_)) => RecordKind::Room,
            Some(Content::Asset(_)) => RecordKind::Asset,
            Some(Content::Incentive(_)) => RecordKind::Incentive,
            Some(Content::Training(_)) => RecordKind::Training,
            Some(Content::Certification(_)) => RecordKind::Certification,
            Some(Content::ChannelCost(_)) => RecordKind::ChannelCost,
            Some(Content::Target(_)) => RecordKind::Target,
            Some(Content::PartnerAnalysis(_)) => RecordKind::PartnerAnalysis,
            Some(Content::Campaign(_)) => RecordKind::Campaign,
            Some(Content::EcosystemEvent(_)) => RecordKind::EcosystemEvent,
            Some(Content::ViewPreference(_)) => RecordKind::ViewPreference,
            None => RecordKind::Unknown,
        }
    }
}

impl FromWire<v1::Record> for Record {
    fn from_wire(wire: v1::Record) -> Result<Self, Error> {
        Ok(Self(wire))
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        mapping::json(&self.0)
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

/// How to import a file of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordImport {
    /// What errors call the file.
    pub file_name: String,
    /// How it is written.
    pub format: RecordFileFormat,
    /// What its lines are. For NDJSON it may be unset where every line names its kind.
    pub kind: Option<RecordKind>,
}

impl Client {
    /// Takes records in, all or nothing, idempotent by id.
    ///
    /// # Errors
    /// What the node reports, or the way there; then nothing was changed.
    pub fn ingest_records(
        &self,
        records: impl Stream<Item = Record> + Send + 'static,
    ) -> impl Future<Output = Result<RecordsReport, Error>> + Send {
        let messages = batches(records.map(|record| record.0)).map(|records| {
            Ok(v1::IngestRecordsRequest {
                records,
                last: false,
            })
        });
        let last = v1::IngestRecordsRequest {
            records: Vec::new(),
            last: true,
        };
        // A record of no kind is refused.
        let refused = v1::IngestRecordsRequest {
            records: vec![v1::Record::default()],
            last: false,
        };
        let (request, cause) = self.upload(ended(messages, last), refused);
        async move {
            let mut api = self.record_api();
            let answer = self
                .uploaded(cause, api.ingest_records(request).boxed())
                .await?;
            RecordsReport::from_wire(answer)
        }
    }

    /// Imports a file of records, all or nothing, idempotent by id. `on_sent` learns how many bytes have left so far.
    ///
    /// # Errors
    /// What reading `content` or the node reports, or the way there; then nothing was changed.
    pub fn import_records(
        &self,
        import: RecordImport,
        content: impl AsyncRead + Send + Unpin + 'static,
        on_sent: impl FnMut(u64) + Send + 'static,
    ) -> impl Future<Output = Result<RecordsReport, Error>> + Send {
        let path = PathBuf::from(&import.file_name);
        let header = || {
            Part::Header(v1::ImportRecordsHeader {
                file_name: import.file_name.clone(),
                format: import.format.to_proto(),
                kind: import.kind.unwrap_or_default().to_proto(),
            })
        };
        let parts = stream::once(future::ready(Ok(header())))
            .chain(chunks(path, content, on_sent).map_ok(Part::Chunk))
            .map_ok(|part| v1::ImportRecordsRequest {
                part: Some(part),
                last: false,
            });
        let last = v1::ImportRecordsRequest {
            part: None,
            last: true,
        };
        // A second header is refused.
        let refused = v1::ImportRecordsRequest {
            part: Some(header()),
            last: false,
        };
        let (request, cause) = self.upload(ended(parts, last), refused);
        async move {
            let mut api = self.record_api();
            let answer = self
                .uploaded(cause, api.import_records(request).boxed())
                .await?;
            RecordsReport::from_wire(answer)
        }
    }

    /// One record; portal events are counted, not kept one by one.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn record(&self, kind: RecordKind, id: &str) -> Result<Record, Error> {
        let answer = ask!(self.record_api().get_record(v1::GetRecordRequest {
            kind: kind.to_proto(),
            id: id.to_owned(),
        }))
        .await?;
        Record::from_wire(present(answer.record, "the record")?)
    }

    /// One page of the records of a kind by id, of one partner if `partner` is set.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_records(
        &self,
        kind: RecordKind,
        partner: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<Record>, Error> {
        let answer = ask!(self.record_api().list_records(v1::ListRecordsRequest {
            kind: kind.to_proto(),
            partner: partner.unwrap_or_default().to_owned(),
            page_size: page.size(),
            page_token: page.token,
        }))
        .await?;
        Page::of(answer.records, answer.next_page_token, None)
    }

    /// Every record of a kind by id, of one partner if `partner` is set.
    pub fn records<'a>(
        &'a self,
        kind: RecordKind,
        partner: Option<&'a str>,
    ) -> impl Stream<Item = Result<Record, Error>> + Send + 'a {
        entries(move |page| self.list_records(kind, partner, page))
    }
}
