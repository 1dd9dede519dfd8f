//! What a record must be to be taken in.

use overlap_proto::v1::{self, record::Content};

use super::{
    kind::Kind,
    money::Money,
    times::{self, DAY, Nanos},
};

/// Longest id.
pub const MAX_ID_BYTES: usize = 256;
/// Longest text of any other field.
const MAX_TEXT_BYTES: usize = 4096;
/// Most elements of a list.
const MAX_ELEMENTS: usize = 1000;
/// From 1900-01-01 until 2200-01-01.
pub const TIMES: std::ops::Range<Nanos> =
    -2_208_988_800 * times::SECOND..7_258_118_400 * times::SECOND;
/// How far the platform's clock may be ahead of this node's.
const CLOCK_TOLERANCE: Nanos = DAY;

/// A wrong field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path within the record, e.g. `deal.amount.currency_code`.
    pub field: String,
    /// What it must be.
    pub problem: String,
}

/// What every record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Which kind it is.
    pub kind: Kind,
    /// The partner it is about, or empty.
    pub partner: &'a str,
    /// The customer it is about, or empty.
    pub customer: &'a str,
    /// When an event happened, when the platform changed anything else.
    pub version: Nanos,
}

/// Checks a record that arrived at `now`.
///
/// # Errors
/// Every wrong field.
pub fn check(record: &v1::Record, now: Nanos) -> Result<Header<'_>, Vec<Violation>> {
    let mut fields = Fields {
        violations: Vec::new(),
        prefix: "",
        now,
    };
    fields.id("id", &record.id, true);
    let updated_at = fields.time("updated_at", record.updated_at.as_ref(), false);
    let Some(content) = &record.content else {
        fields.refuse("content", "must be set: say what kind of record this is");
        return Err(fields.violations);
    };
    let kind = Kind::of(content);
    fields.prefix = kind.field();
    let mut header = Header {
        kind,
        partner: "",
        customer: "",
        version: updated_at.unwrap_or(now),
    };
    if record.deleted {
        fields.prefix = "";
        if kind.is_event() {
            fields.refuse("deleted", "events cannot be deleted");
        }
    } else {
        let (partner, at) = contents(&mut fields, content, &record.id);
        header.partner = partner;
        header.customer = customer_of(content);
        if let Some(at) = at {
            header.version = at;
        }
    }
    if fields.violations.is_empty() {
        Ok(header)
    } else {
        Err(fields.violations)
    }
}

/// Checks a record's own fields; says which partner it is about and, for an event, when it happened.
fn contents<'a>(
    fields: &mut Fields,
    content: &'a Content,
    id: &'a str,
) -> (&'a str, Option<Nanos>) {
    match content {
        Content::LifecycleEvent(event) => {
            fields.id("customer", &event.customer, true);
            fields.choice::<v1::LifecycleEventType>("type", event.r#type);
            fields.text("label", &event.label, false);
            fields.id("partner", &event.partner, false);
            let at = fields.happened("at", event.at.as_ref());
            return (&event.partner, at);
        }
        Content::PortalEvent(event) => {
            fields.id("partner", &event.partner, true);
            fields.id("user", &event.user, true);
            fields.id("room", &event.room, false);
            fields.id("resource", &event.resource, false);
            fields.choice::<v1::PortalEventKind>("kind", event.kind);
            let at = fields.happened("at", event.at.as_ref());
            return (&event.partner, at);
        }
        Content::EcosystemEvent(event) => {
            fields.id("partner", &event.partner, true);
            fields.choice::<v1::EcosystemEventType>("type", event.r#type);
            fields.id("customer", &event.customer, false);
            fields.money("amount", event.amount.as_ref(), false);
            let at = fields.happened("at", event.at.as_ref());
            return (&event.partner, at);
        }
        Content::PartnerProfile(profile) => {
            self::profile(fields, profile);
            return (id, None);
        }
        Content::Deal(deal) => self::deal(fields, deal),
        Content::PortalUser(user) => {
            fields.id("partner", &user.partner, true);
            fields.text("role", &user.role, false);
            fields.text("name", &user.name, false);
        }
        Content::Referral(referral) => {
            fields.id("partner", &referral.partner, true);
            fields.id("customer", &referral.customer, true);
            fields.choice::<v1::ReferralStatus>("status", referral.status);
            fields.time("referred_at", referral.referred_at.as_ref(), true);
            fields.time("decided_at", referral.decided_at.as_ref(), false);
            fields.id("deal", &referral.deal, false);
        }
        Content::ManagedAccount(link) => {
            fields.id("partner", &link.partner, true);
            fields.id("customer", &link.customer, true);
            let from = fields.time("from", link.from.as_ref(), true);
            let to = fields.time("to", link.to.as_ref(), false);
            fields.order("to", from, to);
        }
        Content::Resource(resource) => {
            fields.text("title", &resource.title, true);
            fields.text("uri", &resource.uri, false);
            fields.id("room", &resource.room, false);
        }
        Content::Room(room) => fields.text("title", &room.title, true),
        Content::Asset(asset) => {
            fields.text("title", &asset.title, true);
            fields.text("kind", &asset.kind, false);
            fields.text("uri", &asset.uri, false);
            fields.id("partner", &asset.partner, false);
        }
        Content::Incentive(incentive) => self::incentive(fields, incentive),
        Content::Training(training) => {
            fields.id("partner", &training.partner, true);
            fields.id("user", &training.user, false);
            fields.text("course", &training.course, true);
            fields.time("assigned_at", training.assigned_at.as_ref(), true);
            fields.time("completed_at", training.completed_at.as_ref(), false);
        }
        Content::Certification(certification) => {
            fields.id("partner", &certification.partner, true);
            fields.id("user", &certification.user, false);
            fields.text("name", &certification.name, true);
            let issued = fields.time("issued_at", certification.issued_at.as_ref(), true);
            let expires = fields.time("expires_at", certification.expires_at.as_ref(), false);
            fields.order("expires_at", issued, expires);
        }
        Content::ChannelCost(cost) => {
            fields.id("partner", &cost.partner, false);
            fields.text("category", &cost.category, false);
            fields.money("amount", cost.amount.as_ref(), true);
            fields.time("incurred_at", cost.incurred_at.as_ref(), true);
        }
        Content::Target(target) => self::target(fields, target),
        Content::PartnerAnalysis(analysis) => self::analysis(fields, analysis),
        Content::Campaign(campaign) => {
            fields.id("partner", &campaign.partner, true);
            fields.text("name", &campaign.name, true);
            let starts = fields.time("starts_at", campaign.starts_at.as_ref(), true);
            let ends = fields.time("ends_at", campaign.ends_at.as_ref(), false);
            fields.order("ends_at", starts, ends);
            fields.ids("deals", &campaign.deals);
            fields.money("cost", campaign.cost.as_ref(), false);
        }
        Content::ViewPreference(preference) => {
            fields.id("user", &preference.user, true);
            fields.text("view", &preference.view, true);
            fields.text("tile", &preference.tile, true);
        }
    }
    (partner_of(content), None)
}

fn partner_of(content: &Content) -> &str {
    match content {
        Content::LifecycleEvent(record) => &record.partner,
        Content::PortalUser(record) => &record.partner,
        Content::Deal(record) => &record.partner,
        Content::Referral(record) => &record.partner,
        Content::ManagedAccount(record) => &record.partner,
        Content::PortalEvent(record) => &record.partner,
        Content::Asset(record) => &record.partner,
        Content::Incentive(record) => &record.partner,
        Content::Training(record) => &record.partner,
        Content::Certification(record) => &record.partner,
        Content::ChannelCost(record) => &record.partner,
        Content::Target(record) => &record.partner,
        Content::PartnerAnalysis(record) => &record.partner,
        Content::Campaign(record) => &record.partner,
        Content::EcosystemEvent(record) => &record.partner,
        Content::PartnerProfile(_)
        | Content::Resource(_)
        | Content::Room(_)
        | Content::ViewPreference(_) => "",
    }
}

fn customer_of(content: &Content) -> &str {
    match content {
        Content::LifecycleEvent(record) => &record.customer,
        Content::Deal(record) => &record.customer,
        Content::Referral(record) => &record.customer,
        Content::ManagedAccount(record) => &record.customer,
        Content::EcosystemEvent(record) => &record.customer,
        _ => "",
    }
}

fn profile(fields: &mut Fields, profile: &v1::PartnerProfileRecord) {
    fields.choice::<v1::PartnerType>("type", profile.r#type);
    for (field, value) in [
        ("name", &profile.name),
        ("segment", &profile.segment),
        ("tier", &profile.tier),
        ("status", &profile.status),
        ("lifecycle_stage", &profile.lifecycle_stage),
        ("subtype", &profile.subtype),
        ("business_model", &profile.business_model),
        ("logo_uri", &profile.logo_uri),
    ] {
        fields.text(field, value, field == "name");
    }
    for (field, values) in [
        ("regions", &profile.regions),
        ("verticals", &profile.verticals),
        ("offerings", &profile.offerings),
        ("specialisations", &profile.specialisations),
    ] {
        fields.texts(field, values);
    }
    let enrolled = fields.time("enrolled_at", profile.enrolled_at.as_ref(), false);
    let left = fields.time("left_at", profile.left_at.as_ref(), false);
    fields.order("left_at", enrolled, left);
    fields.count("contacts", profile.contacts.len());
    for contact in &profile.contacts {
        fields.text("contacts.name", &contact.name, true);
        fields.text("contacts.role", &contact.role, false);
        fields.text("contacts.email", &contact.email, false);
    }
}

fn deal(fields: &mut Fields, deal: &v1::DealRecord) {
    for (field, id) in [("partner", &deal.partner), ("customer", &deal.customer)] {
        fields.id(field, id, false);
    }
    for (field, value) in [
        ("stage", &deal.stage),
        ("region", &deal.region),
        ("territory", &deal.territory),
        ("industry", &deal.industry),
        ("product", &deal.product),
    ] {
        fields.text(field, value, false);
    }
    fields.ids("influencing_partners", &deal.influencing_partners);
    fields.choice::<v1::DealOrigination>("origination", deal.origination);
    fields.choice::<v1::DealType>("type", deal.r#type);
    let outcome = fields.choice::<v1::DealOutcome>("outcome", deal.outcome);
    if v1::DealOrigination::try_from(deal.origination) == Ok(v1::DealOrigination::Sourced)
        && deal.partner.is_empty()
    {
        fields.refuse("partner", "must be set for a SOURCED deal");
    }
    let amount = fields.money("amount", deal.amount.as_ref(), true);
    let margin = fields.money("gross_margin", deal.gross_margin.as_ref(), false);
    if let (Some(amount), Some(margin)) = (amount, margin)
        && amount.currency != margin.currency
    {
        fields.refuse("gross_margin.currency_code", "must be that of amount");
    }
    fields.time("opened_at", deal.opened_at.as_ref(), true);
    fields.time("last_activity_at", deal.last_activity_at.as_ref(), false);
    // A close before the opening is kept: it is counted as a data error where it matters (K-07).
    let closed = fields.time("closed_at", deal.closed_at.as_ref(), false);
    match outcome {
        Some(v1::DealOutcome::Open) if deal.closed_at.is_some() => {
            fields.refuse("closed_at", "must not be set while the outcome is OPEN");
        }
        Some(v1::DealOutcome::Won | v1::DealOutcome::Lost)
            if closed.is_none() && deal.closed_at.is_none() =>
        {
            fields.refuse("closed_at", "must be set for a WON or LOST deal");
        }
        _ => {}
    }
    if deal.probability_bp.is_some_and(|chance| chance > 10_000) {
        fields.refuse("probability_bp", "must be at most 10000");
    }
    if let Some(registration) = &deal.registration {
        fields.time(
            "registration.submitted_at",
            registration.submitted_at.as_ref(),
            true,
        );
        fields.time(
            "registration.decided_at",
            registration.decided_at.as_ref(),
            false,
        );
        let status =
            fields.choice::<v1::RegistrationStatus>("registration.status", registration.status);
        match status {
            Some(v1::RegistrationStatus::Pending) if registration.decided_at.is_some() => {
                fields.refuse("registration.decided_at", "must not be set while PENDING");
            }
            Some(v1::RegistrationStatus::Approved | v1::RegistrationStatus::Rejected)
                if registration.decided_at.is_none() =>
            {
                fields.refuse("registration.decided_at", "must be set once decided");
            }
            _ => {}
        }
    }
    fields.count("stage_changes", deal.stage_changes.len());
    for change in &deal.stage_changes {
        fields.text("stage_changes.stage", &change.stage, true);
        fields.time("stage_changes.at", change.at.as_ref(), true);
    }
}

fn incentive(fields: &mut Fields, incentive: &v1::IncentiveRecord) {
    fields.id("partner", &incentive.partner, true);
    fields.choice::<v1::IncentiveKind>("kind", incentive.kind);
    let available = fields.money("available", incentive.available.as_ref(), true);
    let used = fields.money("used", incentive.used.as_ref(), false);
    if let (Some(available), Some(used)) = (available, used)
        && available.currency != used.currency
    {
        fields.refuse("used.currency_code", "must be that of available");
    }
    let start = fields.time("period_start", incentive.period_start.as_ref(), true);
    let end = fields.time("period_end", incentive.period_end.as_ref(), true);
    fields.order("period_end", start, end);
    fields.time("expires_at", incentive.expires_at.as_ref(), false);
}

fn target(fields: &mut Fields, target: &v1::TargetRecord) {
    use crate::program::definitions::MetricId;
    if MetricId::from_name(&target.metric).is_none() {
        fields.refuse("metric", "is not the id of a metric of docs/METRICS.md");
    }
    fields.id("partner", &target.partner, false);
    let start = fields.time("period_start", target.period_start.as_ref(), true);
    let end = fields.time("period_end", target.period_end.as_ref(), true);
    fields.order("period_end", start, end);
    match &target.goal {
        None => fields.refuse("goal", "must be set: money or number"),
        Some(v1::target_record::Goal::Money(money)) => {
            fields.money("money", Some(money), true);
        }
        Some(v1::target_record::Goal::Number(_)) => {}
    }
}

fn analysis(fields: &mut Fields, analysis: &v1::PartnerAnalysisRecord) {
    fields.id("partner", &analysis.partner, true);
    fields.time("analyzed_at", analysis.analyzed_at.as_ref(), true);
    fields.count("strengths", analysis.strengths.len());
    for strength in &analysis.strengths {
        fields.text("strengths.label", &strength.label, true);
        fields.text("strengths.description", &strength.description, false);
        fields.score("strengths.score", Some(strength.score));
    }
    fields.score("capacity", analysis.capacity);
    fields.score("capability", analysis.capability);
    fields.score("commitment", analysis.commitment);
    fields.score("customer_alignment", analysis.customer_alignment);
}

/// Collects what is wrong.
struct Fields {
    violations: Vec<Violation>,
    prefix: &'static str,
    now: Nanos,
}

impl Fields {
    fn refuse(&mut self, field: &str, problem: &str) {
        let field = match self.prefix {
            "" => field.to_owned(),
            prefix => format!("{prefix}.{field}"),
        };
        self.violations.push(Violation {
            field,
            problem: problem.to_owned(),
        });
    }

    fn id(&mut self, field: &str, id: &str, required: bool) {
        if id.is_empty() {
            if required {
                self.refuse(field, "must not be empty");
            }
        } else if id.len() > MAX_ID_BYTES {
            self.refuse(field, "must be at most 256 bytes");
        } else if id.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            self.refuse(field, "must not contain control characters");
        }
    }

    fn ids(&mut self, field: &str, ids: &[String]) {
        self.count(field, ids.len());
        for id in ids {
            self.id(field, id, true);
        }
    }

    fn text(&mut self, field: &str, text: &str, required: bool) {
        if text.is_empty() {
            if required {
                self.refuse(field, "must not be empty");
            }
        } else if text.len() > MAX_TEXT_BYTES {
            self.refuse(field, "must be at most 4096 bytes");
        }
    }

    fn texts(&mut self, field: &str, texts: &[String]) {
        self.count(field, texts.len());
        for text in texts {
            self.text(field, text, true);
        }
    }

    fn count(&mut self, field: &str, elements: usize) {
        if elements > MAX_ELEMENTS {
            self.refuse(field, "must have at most 1000 elements");
        }
    }

    fn time(
        &mut self,
        field: &str,
        time: Option<&prost_types::Timestamp>,
        required: bool,
    ) -> Option<Nanos> {
        let Some(time) = time else {
            if required {
                self.refuse(field, "must be set");
            }
            return None;
        };
        let nanos = times::to_nanos(time).filter(|nanos| TIMES.contains(nanos));
        if nanos.is_none() {
            self.refuse(field, "must be a time between 1900 and 2200");
        }
        nanos
    }

    /// When an event happened.
    fn happened(&mut self, field: &str, time: Option<&prost_types::Timestamp>) -> Option<Nanos> {
        let at = self.time(field, time, true)?;
        if at > self.now.saturating_add(CLOCK_TOLERANCE) {
            self.refuse(field, "lies more than a day in the future");
            return None;
        }
        Some(at)
    }

    fn order(&mut self, field: &str, start: Option<Nanos>, end: Option<Nanos>) {
        if let (Some(start), Some(end)) = (start, end)
            && end < start
        {
            self.refuse(field, "must not lie before the start");
        }
    }

    /// An enum's value, which must be known and not UNSPECIFIED.
    fn choice<E: TryFrom<i32>>(&mut self, field: &str, value: i32) -> Option<E> {
        if value == 0 {
            self.refuse(field, "must be set");
            return None;
        }
        let choice = E::try_from(value).ok();
        if choice.is_none() {
            self.refuse(field, &format!("{value} is not a known value"));
        }
        choice
    }

    fn money(&mut self, field: &str, money: Option<&v1::Money>, required: bool) -> Option<Money> {
        let Some(money) = money else {
            if required {
                self.refuse(field, "must be set");
            }
            return None;
        };
        match Money::parse(money) {
            Ok(money) => Some(money),
            Err((part, problem)) => {
                self.refuse(&format!("{field}.{part}"), problem);
                None
            }
        }
    }

    fn score(&mut self, field: &str, score: Option<u32>) {
        if score.is_some_and(|score| score > 100) {
            self.refuse(field, "must be at most 100");
        }
    }
}
