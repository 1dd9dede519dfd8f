//! Where page views go: top resources and rooms (G-13, G-14).

use overlap_proto::v1::{self, record::Content};
use rusqlite::Connection;

use super::{
    names::{self, Named},
    population::Query,
    scan::{self, NumberSet},
    sessions::Visit,
};
use crate::{
    error::Error,
    records::{kind::Kind, paging::Page, store},
};

/// Most memory for sets of people.
const MOST_SET_BYTES: u64 = 64 << 20;

/// A resource or room and its figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The platform's id.
    pub id: String,
    /// Page views.
    pub page_views: u64,
    /// Distinct people.
    pub unique_users: u64,
}

/// The first `wanted` places by page views, then unique users, then id, and whether there are more.
///
/// # Errors
/// What the store reports.
pub fn top(
    connection: &Connection,
    query: &Query,
    kind: Named,
    wanted: usize,
) -> Result<(Vec<Place>, bool), Error> {
    let number = |visit: &Visit| match kind {
        Named::Room => visit.room as usize,
        _ => visit.resource as usize,
    };
    let names = names::all(connection, kind)?;
    let largest_user = names::highest(connection, Named::User)?;
    let mut views = vec![0_u64; names.len()];
    let mut users: Vec<Option<NumberSet>> = vec![None; names.len()];
    // One pass where the sets of people fit the memory; else people are counted only for places that can be on the page.
    let one_pass = names.len() as u64 * u64::from(largest_user) / 8 <= MOST_SET_BYTES;
    if one_pass {
        users[1..].fill(Some(NumberSet::with_room(largest_user)));
    }
    scan::visits(
        connection,
        &query.span,
        &query.selection,
        &mut |user, visit| {
            let place = number(&visit);
            views[place] += u64::from(visit.page_views);
            if let Some(users) = &mut users[place] {
                users.insert(user);
            }
        },
    )?;
    views[0] = 0;
    let mut order: Vec<usize> = (1..views.len()).filter(|&place| views[place] > 0).collect();
    let more = order.len() > wanted;
    if more && wanted > 0 {
        // Whatever ties with the last wanted place may still come before it.
        let (_, &mut last, _) =
            order.select_nth_unstable_by(wanted - 1, |&one, &other| views[other].cmp(&views[one]));
        order.retain(|&place| views[place] >= views[last]);
    }
    if !one_pass {
        for &place in &order {
            users[place] = Some(NumberSet::default());
        }
        scan::visits(
            connection,
            &query.span,
            &query.selection,
            &mut |user, visit| {
                if let Some(users) = &mut users[number(&visit)] {
                    users.insert(user);
                }
            },
        )?;
    }
    let mut places: Vec<Place> = order
        .into_iter()
        .map(|place| Place {
            id: names[place].clone(),
            page_views: views[place],
            unique_users: users[place].as_ref().map_or(0, NumberSet::len),
        })
        .collect();
    places.sort_by(|one, other| {
        (other.page_views, other.unique_users, &one.id).cmp(&(
            one.page_views,
            one.unique_users,
            &other.id,
        ))
    });
    places.truncate(wanted);
    Ok((places, more))
}

/// A page of the top places.
fn page_of(
    connection: &Connection,
    query: &Query,
    kind: Named,
    page: &Page,
) -> Result<(Vec<Place>, String, u64), Error> {
    let offset: usize = page.after.parse().unwrap_or(0);
    let end = offset.saturating_add(page.size);
    let (mut places, more) = top(connection, query, kind, end)?;
    let viewed = places.len() as u64;
    let places = places.split_off(offset.min(places.len()));
    let token = if more {
        page.token(&end.to_string())
    } else {
        String::new()
    };
    Ok((places, token, viewed))
}

/// Top resources (G-13).
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter.
pub fn resources(
    connection: &Connection,
    page: &Page,
    request: &v1::ListTopResourcesRequest,
) -> Result<v1::ListTopResourcesResponse, Error> {
    let query = Query::resolve(connection, request.filter.as_ref(), page.as_of)?;
    let (places, next_page_token, viewed) = page_of(connection, &query, Named::Resource, page)?;
    let scope = query.scope(connection, viewed)?;
    let resources = places
        .into_iter()
        .map(|place| {
            let record = store::find(connection, Kind::Resource, &place.id)?;
            let (title, uri) = match record.and_then(|record| record.content) {
                Some(Content::Resource(resource)) => (resource.title, resource.uri),
                _ => (place.id.clone(), String::new()),
            };
            Ok(v1::TopResource {
                id: place.id,
                title,
                uri,
                page_views: place.page_views,
                unique_users: place.unique_users,
            })
        })
        .collect::<Result<_, Error>>()?;
    Ok(v1::ListTopResourcesResponse {
        resources,
        next_page_token,
        scope: Some(scope),
    })
}

/// Top rooms (G-14).
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter.
pub fn rooms(
    connection: &Connection,
    page: &Page,
    request: &v1::ListTopRoomsRequest,
) -> Result<v1::ListTopRoomsResponse, Error> {
    let query = Query::resolve(connection, request.filter.as_ref(), page.as_of)?;
    let (places, next_page_token, viewed) = page_of(connection, &query, Named::Room, page)?;
    let scope = query.scope(connection, viewed)?;
    let rooms = places
        .into_iter()
        .map(|place| {
            let record = store::find(connection, Kind::Room, &place.id)?;
            let title = match record.and_then(|record| record.content) {
                Some(Content::Room(room)) => room.title,
                _ => place.id.clone(),
            };
            Ok(v1::TopRoom {
                id: place.id,
                title,
                page_views: place.page_views,
                unique_users: place.unique_users,
            })
        })
        .collect::<Result<_, Error>>()?;
    Ok(v1::ListTopRoomsResponse {
        rooms,
        next_page_token,
        scope: Some(scope),
    })
}
