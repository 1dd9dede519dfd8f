//! Which partners and days a call is about, and why there may be nothing to show.

use std::{collections::BTreeMap, ops::Range};

use overlap_proto::v1::{self, engagement_filter::Range as FilterRange, record::Content};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    DEFINITION_VERSION,
    figures::ByPartner,
    names::{self, Named},
    scan::{self, Selection},
};
use crate::{
    error::Error,
    program::settings,
    records::{
        calendar::{self, Days},
        kind::Kind,
        store,
        times::{self, Nanos},
    },
};

/// A partner, as far as engagement is concerned.
#[derive(Clone, Debug)]
pub struct Partner {
    /// The platform's id.
    pub id: String,
    /// Its number in blocks of activity; 0 if it never had any.
    pub number: u32,
    /// What people call it; the id if there is no profile.
    pub name: String,
    /// Unspecified without a profile.
    pub kind: v1::PartnerType,
    /// Link to its logo, or empty.
    pub logo_uri: String,
    /// When it joined the program, if known.
    pub enrolled_at: Option<Nanos>,
    /// Whether it has a portal user.
    pub access: bool,
}

/// A filter, resolved.
pub struct Query {
    /// The days.
    pub days: Days,
    /// When they begin and end.
    pub span: Range<Nanos>,
    /// The instant the call is computed at.
    pub as_of: Nanos,
    /// Partners the filter selects, by id.
    pub partners: Vec<Partner>,
    /// The same by number, for scanning.
    pub selection: Selection,
    /// Types that may be filtered by.
    pub available_types: Vec<v1::PartnerType>,
    /// All partners' numbers: what there is without the filter.
    everyone: Selection,
    anyone_known: bool,
    events: i64,
    through: Option<Nanos>,
}

impl Query {
    /// Resolves a filter at `as_of`; an absent one is everything over the last 30 days (G-25).
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a wrong range, zone or type.
    pub fn resolve(
        connection: &Connection,
        filter: Option<&v1::EngagementFilter>,
        as_of: Nanos,
    ) -> Result<Self, Error> {
        let filter = filter.cloned().unwrap_or_default();
        let zone = calendar::zone("filter.time_zone", &filter.time_zone)?;
        let days = match &filter.range {
            None => Days::quick(v1::QuickRange::Last30Days, as_of, &zone)?,
            Some(FilterRange::QuickRange(range)) => {
                let range = v1::QuickRange::try_from(*range)
                    .map_err(|_| Error::invalid("filter.quick_range", "is not known"))?;
                Days::quick(range, as_of, &zone)?
            }
            Some(FilterRange::DateRange(range)) => Days::parse(range, "filter.date_range", &zone)?,
        };
        Self::over(connection, &filter, days, as_of)
    }

    /// Resolves a filter without a range.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it has one, or is wrong otherwise.
    pub fn resolve_over(
        connection: &Connection,
        filter: Option<&v1::EngagementFilter>,
        as_of: Nanos,
        days: impl FnOnce(jiff::tz::TimeZone) -> Result<Days, Error>,
    ) -> Result<Self, Error> {
        let filter = filter.cloned().unwrap_or_default();
        if filter.range.is_some() {
            return Err(Error::invalid(
                "filter.range",
                "must not be set: this call says itself which days it covers",
            ));
        }
        let zone = calendar::zone("filter.time_zone", &filter.time_zone)?;
        Self::over(connection, &filter, days(zone)?, as_of)
    }

    fn over(
        connection: &Connection,
        filter: &v1::EngagementFilter,
        days: Days,
        as_of: Nanos,
    ) -> Result<Self, Error> {
        let available_types = settings::load(connection)?.enabled_types();
        let mut types = Vec::new();
        for &code in &filter.types {
            let kind = v1::PartnerType::try_from(code).unwrap_or_default();
            if !available_types.contains(&kind) {
                return Err(Error::invalid(
                    "filter.types",
                    format!("{} is not an available partner type", kind.as_str_name()),
                ));
            }
            types.push(kind);
        }
        let everybody = partners(connection)?;
        let mut everyone = Selection::default();
        let mut selection = Selection::default();
        let mut selected = Vec::new();
        let anyone_known = !everybody.is_empty();
        for partner in everybody {
            everyone.add(partner.number);
            let wanted_type = if types.is_empty() {
                partner.kind == v1::PartnerType::Unspecified
                    || available_types.contains(&partner.kind)
            } else {
                types.contains(&partner.kind)
            };
            if wanted_type && (filter.partners.is_empty() || filter.partners.contains(&partner.id))
            {
                selection.add(partner.number);
                selected.push(partner);
            }
        }
        let (events, through) = connection
            .prepare_cached("SELECT events, through FROM engagement_state WHERE id = 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let span = days.span()?;
        Ok(Self {
            span,
            days,
            as_of,
            partners: selected,
            selection,
            available_types,
            everyone,
            anyone_known,
            events,
            through,
        })
    }

    /// The figures of each selected partner over `span`.
    ///
    /// # Errors
    /// What the store reports.
    pub fn by_partner(
        &self,
        connection: &Connection,
        span: &Range<Nanos>,
    ) -> Result<ByPartner, Error> {
        let mut table = ByPartner::default();
        scan::sessions(connection, span, &self.selection, &mut |part| {
            table.add(part);
        })?;
        Ok(table.finish())
    }

    /// What was counted; `sessions` says whether there is anything to show.
    ///
    /// # Errors
    /// What the store reports.
    pub fn scope(
        &self,
        connection: &Connection,
        sessions: u64,
    ) -> Result<v1::EngagementScope, Error> {
        let reason = if sessions > 0 {
            v1::NoDataReason::Unspecified
        } else {
            self.no_data_reason(connection)?
        };
        Ok(v1::EngagementScope {
            start: Some(times::to_proto(self.span.start)),
            end: Some(times::to_proto(self.span.end)),
            first_day: self.days.first.to_string(),
            last_day: self.days.last.to_string(),
            time_zone: self.days.zone.iana_name().unwrap_or("UTC").to_owned(),
            as_of: Some(times::to_proto(self.as_of)),
            data_through: self.through.map(times::to_proto),
            definition_version: DEFINITION_VERSION,
            available_types: self
                .available_types
                .iter()
                .map(|&kind| kind as i32)
                .collect(),
            no_data_reason: reason as i32,
        })
    }

    /// Why there is no session (G-28): nothing ingested for the time, filtered out, no access, or no logins, in this order.
    fn no_data_reason(&self, connection: &Connection) -> Result<v1::NoDataReason, Error> {
        if !self.anyone_known {
            return Ok(v1::NoDataReason::NotIngested);
        }
        if self.partners.is_empty() {
            return Ok(v1::NoDataReason::FilteredOut);
        }
        let access = self.partners.iter().any(|partner| partner.access);
        if self.events == 0 {
            return Ok(if access {
                v1::NoDataReason::NoLogins
            } else {
                v1::NoDataReason::NoAccess
            });
        }
        if self
            .through
            .is_some_and(|through| through < self.span.start)
        {
            return Ok(v1::NoDataReason::NotIngested);
        }
        if !access && self.partners.iter().all(|partner| partner.number == 0) {
            return Ok(v1::NoDataReason::NoAccess);
        }
        let mut others = false;
        scan::sessions(connection, &self.span, &self.everyone, &mut |_| {
            others = true;
        })?;
        Ok(if others {
            v1::NoDataReason::FilteredOut
        } else {
            v1::NoDataReason::NoLogins
        })
    }
}

/// Every partner that has a profile, a portal user or activity, by id.
fn partners(connection: &Connection) -> Result<Vec<Partner>, Error> {
    let unknown = |id: &str| Partner {
        id: id.to_owned(),
        number: 0,
        name: id.to_owned(),
        kind: v1::PartnerType::Unspecified,
        logo_uri: String::new(),
        enrolled_at: None,
        access: false,
    };
    let mut partners: BTreeMap<String, Partner> = BTreeMap::new();
    store::scan(connection, Kind::PartnerProfile, &mut |id, _, content| {
        if let Content::PartnerProfile(profile) = content {
            let partner = Partner {
                name: profile.name.clone(),
                kind: profile.r#type(),
                logo_uri: profile.logo_uri.clone(),
                enrolled_at: profile.enrolled_at.as_ref().and_then(times::to_nanos),
                ..unknown(&id)
            };
            partners.insert(id, partner);
        }
        Ok(())
    })?;
    for (number, id) in names::all(connection, Named::Partner)?
        .into_iter()
        .enumerate()
        .skip(1)
    {
        let number = u32::try_from(number).expect("numbers are 32 bits");
        partners
            .entry(id)
            .or_insert_with_key(|id| unknown(id))
            .number = number;
    }
    // One step a partner, not one a user.
    let mut next = connection.prepare_cached(
        "SELECT partner FROM records WHERE kind = ?1 AND partner > ?2 AND NOT deleted ORDER BY partner LIMIT 1",
    )?;
    let mut last = String::new();
    while let Some(id) = next
        .query_row(params![Kind::PortalUser.code(), last], |row| {
            row.get::<_, String>(0)
        })
        .optional()?
    {
        partners
            .entry(id.clone())
            .or_insert_with_key(|id| unknown(id))
            .access = true;
        last = id;
    }
    Ok(partners.into_values().collect())
}
