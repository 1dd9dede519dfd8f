//! Partners ranked by engagement (G-15 to G-20), those at risk (G-26), and groups side by side (G-27).

use std::cmp::Ordering;

use overlap_proto::v1;
use rusqlite::Connection;

use super::{
    figures::{ByPartner, Figures},
    population::{Partner, Query},
    scan::Selection,
    score::{self, Score},
};
use crate::{
    convert::known,
    error::Error,
    records::{
        paging::Page,
        store,
        times::{self, DAY, Nanos},
    },
};

/// A partner is new for this long after it enrolled (G-27).
const NEW_FOR: Nanos = 90 * DAY;

struct Row<'a> {
    partner: &'a Partner,
    figures: Figures,
    score: Score,
    rank: u32,
}

/// The filtered population, ranked; partners without access and activity are not part of it.
fn ranked<'a>(query: &'a Query, table: &ByPartner) -> Vec<Row<'a>> {
    let partners: Vec<(&Partner, Figures)> = query
        .partners
        .iter()
        .map(|partner| (partner, table.figures(partner.number)))
        .filter(|(partner, figures)| partner.access || figures.sessions > 0)
        .collect();
    let figures: Vec<Figures> = partners.iter().map(|&(_, figures)| figures).collect();
    let scores = score::scores(&figures);
    let ranks = score::ranks(&scores);
    partners
        .into_iter()
        .zip(scores)
        .zip(ranks)
        .map(|(((partner, figures), score), rank)| Row {
            partner,
            figures,
            score,
            rank,
        })
        .collect()
}

/// The leaderboard.
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter, column, direction or mask.
pub fn leaderboard(
    connection: &Connection,
    page: &Page,
    request: &v1::ListLeaderboardRequest,
) -> Result<v1::ListLeaderboardResponse, Error> {
    let column = v1::LeaderboardColumn::try_from(request.order_by)
        .map_err(|_| Error::invalid("order_by", "is not a column"))?;
    let direction = v1::SortDirection::try_from(request.direction)
        .map_err(|_| Error::invalid("direction", "must be ASCENDING or DESCENDING"))?;
    let mask = Mask::parse(request.read_mask.as_ref())?;
    let query = Query::resolve(connection, request.filter.as_ref(), page.as_of)?;
    let table = query.by_partner(connection, &query.span)?;
    let totals = table.total(|_| true);
    let mut rows = if totals.sessions == 0 {
        Vec::new()
    } else {
        ranked(&query, &table)
    };
    let total_size = rows.len() as u64;
    sort(&mut rows, column, direction);
    let (rows, next_page_token) = page.cut(rows, store::revision(connection)?)?;
    Ok(v1::ListLeaderboardResponse {
        rows: rows.iter().map(|row| mask.apply(row)).collect(),
        next_page_token,
        total_size,
        totals: Some(totals.to_proto()),
        scope: Some(query.scope(connection, totals.sessions)?),
    })
}

fn sort(rows: &mut [Row<'_>], column: v1::LeaderboardColumn, direction: v1::SortDirection) {
    use v1::LeaderboardColumn as C;
    let compare = |one: &Row<'_>, other: &Row<'_>| match column {
        C::Unspecified | C::Score => one.score.cmp(&other.score),
        C::Name => one.partner.name.cmp(&other.partner.name),
        C::Type => (one.partner.kind as i32).cmp(&(other.partner.kind as i32)),
        C::UniqueUsers => one.figures.unique_users.cmp(&other.figures.unique_users),
        C::Sessions => one.figures.sessions.cmp(&other.figures.sessions),
        C::PageViews => one.figures.page_views.cmp(&other.figures.page_views),
        C::AverageDuration => one.figures.cmp_average_duration(&other.figures),
        C::Actions => one.figures.actions.cmp(&other.figures.actions),
    };
    let ascending = match direction {
        v1::SortDirection::Ascending => true,
        v1::SortDirection::Descending => false,
        v1::SortDirection::Unspecified => matches!(column, C::Name | C::Type),
    };
    // Ties by id, ascending, whatever the direction.
    rows.sort_by(|one, other| {
        let order = compare(one, other);
        let order = if ascending { order } else { order.reverse() };
        order.then_with(|| one.partner.id.cmp(&other.partner.id))
    });
}

/// Which fields of a row to return.
struct Mask(Option<Vec<String>>);

impl Mask {
    const FIELDS: [&'static str; 7] = [
        "rank", "partner", "name", "logo_uri", "type", "figures", "score",
    ];

    fn parse(mask: Option<&prost_types::FieldMask>) -> Result<Self, Error> {
        let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
            return Ok(Self(None));
        };
        if let Some(path) = mask
            .paths
            .iter()
            .find(|path| !Self::FIELDS.contains(&path.as_str()))
        {
            return Err(Error::invalid(
                "read_mask",
                format!("\"{path}\" is not a field of LeaderboardRow"),
            ));
        }
        Ok(Self(Some(mask.paths.clone())))
    }

    fn apply(&self, row: &Row<'_>) -> v1::LeaderboardRow {
        let mut message = v1::LeaderboardRow {
            rank: row.rank,
            partner: row.partner.id.clone(),
            name: row.partner.name.clone(),
            logo_uri: row.partner.logo_uri.clone(),
            r#type: row.partner.kind as i32,
            figures: Some(row.figures.to_proto()),
            score: row.score.rounded(),
        };
        let Some(paths) = &self.0 else {
            return message;
        };
        let wants = |field: &str| paths.iter().any(|path| path == field);
        let none = v1::LeaderboardRow::default();
        if !wants("rank") {
            message.rank = none.rank;
        }
        if !wants("partner") {
            message.partner = none.partner;
        }
        if !wants("name") {
            message.name = none.name;
        }
        if !wants("logo_uri") {
            message.logo_uri = none.logo_uri;
        }
        if !wants("type") {
            message.r#type = none.r#type;
        }
        if !wants("figures") {
            message.figures = none.figures;
        }
        if !wants("score") {
            message.score = none.score;
        }
        message
    }
}

/// Partners at risk (G-26).
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter or risk.
pub fn at_risk(
    connection: &Connection,
    page: &Page,
    request: &v1::ListAtRiskPartnersRequest,
) -> Result<v1::ListAtRiskPartnersResponse, Error> {
    let wanted = known("risks", &request.risks, v1::EngagementRisk::as_str_name)?;
    let query = Query::resolve(connection, request.filter.as_ref(), page.as_of)?;
    let now = query.by_partner(connection, &query.span)?;
    let before = query.by_partner(connection, &query.days.previous().span()?)?;
    let active: Vec<Figures> = query
        .partners
        .iter()
        .map(|partner| now.figures(partner.number))
        .filter(|figures| figures.sessions > 0)
        .collect();
    let quartile = first_quartile(&active);
    let mut found: Vec<v1::AtRiskPartner> = Vec::new();
    for partner in &query.partners {
        let (figures, previous) = (now.figures(partner.number), before.figures(partner.number));
        let risks = risks(partner, &figures, &previous, quartile.as_ref());
        let listed = risks
            .iter()
            .any(|risk| wanted.is_empty() || wanted.contains(risk));
        if listed {
            let last = now
                .last_start(partner.number)
                .max(before.last_start(partner.number));
            found.push(v1::AtRiskPartner {
                partner: partner.id.clone(),
                name: partner.name.clone(),
                r#type: partner.kind as i32,
                risks: risks.iter().map(|&risk| risk as i32).collect(),
                figures: Some(figures.to_proto()),
                previous_figures: Some(previous.to_proto()),
                last_session_at: last.map(times::to_proto),
            });
        }
    }
    // Partners come by id; the sort keeps that order among equals.
    found.sort_by_key(|partner| std::cmp::Reverse(partner.risks.len()));
    let sessions = now.total(|_| true).sessions;
    let (partners, next_page_token) = page.cut(found, store::revision(connection)?)?;
    Ok(v1::ListAtRiskPartnersResponse {
        partners,
        next_page_token,
        scope: Some(query.scope(connection, sessions)?),
    })
}

/// The 25th percentile of actions per session by the nearest-rank method: the least value that at least a quarter of the
/// active partners do not exceed.
fn first_quartile(active: &[Figures]) -> Option<Figures> {
    let mut sorted = active.to_vec();
    sorted.sort_by(Figures::cmp_actions_per_session);
    sorted
        .get(sorted.len().div_ceil(4).checked_sub(1)?)
        .copied()
}

fn risks(
    partner: &Partner,
    figures: &Figures,
    previous: &Figures,
    quartile: Option<&Figures>,
) -> Vec<v1::EngagementRisk> {
    let mut risks = Vec::new();
    if figures.sessions == 0 {
        if partner.access || previous.sessions > 0 || partner.number > 0 {
            risks.push(v1::EngagementRisk::Inactive);
        }
        return risks;
    }
    if previous.sessions > 0 && figures.cmp_average_duration(previous) == Ordering::Less {
        risks.push(v1::EngagementRisk::DecliningDuration);
    }
    if quartile.is_some_and(|quartile| figures.cmp_actions_per_session(quartile) == Ordering::Less)
    {
        risks.push(v1::EngagementRisk::LowActions);
    }
    risks
}

/// Groups of partners side by side (G-27).
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter or comparison.
pub fn compare(
    connection: &Connection,
    as_of: Nanos,
    request: &v1::CompareEngagementRequest,
) -> Result<v1::CompareEngagementResponse, Error> {
    use v1::EngagementComparison as C;
    let comparison = match C::try_from(request.comparison) {
        Ok(comparison) if comparison != C::Unspecified => comparison,
        _ => {
            return Err(Error::invalid(
                "comparison",
                "must be TYPE, TENURE or LEVEL",
            ));
        }
    };
    let query = Query::resolve(connection, request.filter.as_ref(), as_of)?;
    let table = query.by_partner(connection, &query.span)?;
    let rows = ranked(&query, &table);
    // The top quartile: partners with activity whose rank is within the first quarter of those with activity, rounded up.
    let active = rows.iter().filter(|row| row.figures.sessions > 0).count();
    let top = u32::try_from(active.div_ceil(4)).unwrap_or(u32::MAX);
    let ids: &[&str] = match comparison {
        C::Type => &["REFERRAL", "RESELLER"],
        C::Tenure => &["NEW", "ESTABLISHED"],
        _ => &["HIGH", "AVERAGE"],
    };
    let mut groups: Vec<(&str, Selection, u64)> = ids
        .iter()
        .copied()
        .chain(["UNKNOWN"])
        .map(|id| (id, Selection::default(), 0))
        .collect();
    for row in &rows {
        let group = match comparison {
            C::Type => match row.partner.kind {
                v1::PartnerType::Referral => 0,
                v1::PartnerType::Reseller => 1,
                v1::PartnerType::Unspecified => 2,
            },
            C::Tenure => match row.partner.enrolled_at {
                Some(enrolled_at) if as_of - enrolled_at <= NEW_FOR => 0,
                Some(_) => 1,
                None => 2,
            },
            _ => usize::from(row.figures.sessions == 0 || row.rank > top),
        };
        groups[group].1.add(row.partner.number);
        groups[group].2 += 1;
    }
    let groups = groups
        .into_iter()
        .filter(|(id, _, partners)| *id != "UNKNOWN" || *partners > 0)
        .map(|(id, numbers, partners)| v1::EngagementGroup {
            id: id.to_owned(),
            partners,
            figures: Some(table.total(|number| numbers.has(number)).to_proto()),
        })
        .collect();
    let sessions = table.total(|_| true).sessions;
    Ok(v1::CompareEngagementResponse {
        groups,
        scope: Some(query.scope(connection, sessions)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(actions: u64, sessions: u64) -> Figures {
        Figures {
            actions,
            sessions,
            ..Figures::default()
        }
    }

    /// G-26: of 1/2, 1, 2, 3, 4 actions per session the 25th percentile is the second: ceil(5 / 4) = 2.
    #[test]
    fn g26_first_quartile_by_nearest_rank() {
        let found = first_quartile(&[
            active(4, 1),
            active(1, 2),
            active(3, 1),
            active(5, 5),
            active(4, 2),
        ]);
        assert_eq!(found, Some(active(5, 5)));
        assert_eq!(first_quartile(&[]), None);
    }
}
