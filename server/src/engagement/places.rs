//! Where page views go: top resources and rooms (G-13, G-14).

use std::collections::HashMap;

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

/// Most memory for sets of people that are filled along with the views.
const MOST_SET_BYTES: u64 = 256 << 10;

/// Distinct people at some places.
#[derive(Default)]
struct People {
    /// By place: its set's number from 1, or 0.
    slots: Vec<u32>,
    sets: Vec<NumberSet>,
}

impl People {
    /// Counts people at these places from now on.
    fn count(&mut self, places: impl Iterator<Item = usize>, largest_user: u32) {
        for place in places {
            if self.slots.len() <= place {
                self.slots.resize(place + 1, 0);
            }
            self.sets.push(NumberSet::with_room(largest_user));
            self.slots[place] = u32::try_from(self.sets.len()).expect("places are 32 bits");
        }
    }

    #[inline]
    fn note(&mut self, place: usize, user: u32) {
        if let Some(&slot) = self.slots.get(place)
            && slot != 0
        {
            self.sets[slot as usize - 1].insert(user);
        }
    }

    fn of(&self, place: usize) -> u64 {
        match self.slots.get(place) {
            None | Some(0) => 0,
            Some(&slot) => self.sets[slot as usize - 1].len(),
        }
    }
}

/// What is ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranked {
    /// Resources.
    Resources,
    /// Rooms.
    Rooms,
}

/// The ids of what is ranked, from index 1, and the index of each place's.
fn indices(connection: &Connection, ranked: Ranked) -> Result<(Vec<String>, Vec<u32>), Error> {
    let mut ids = vec![String::new()];
    let mut known: HashMap<String, u32> = HashMap::from([(String::new(), 0)]);
    let of_place = names::all(connection, Named::Place)?
        .iter()
        .map(|place| {
            let (room, resource) = names::room_and_resource(place);
            let id = match ranked {
                Ranked::Rooms => room,
                Ranked::Resources => resource,
            };
            *known.entry(id.to_owned()).or_insert_with(|| {
                ids.push(id.to_owned());
                u32::try_from(ids.len() - 1).expect("places are 32 bits")
            })
        })
        .collect();
    Ok((ids, of_place))
}

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
    ranked: Ranked,
    wanted: usize,
) -> Result<(Vec<Place>, bool), Error> {
    let (names, of_place) = indices(connection, ranked)?;
    let number = |visit: &Visit| {
        of_place
            .get(visit.place as usize)
            .map_or(0, |&at| at as usize)
    };
    let largest_user = names::highest(connection, Named::User)?;
    let mut views = vec![0_u64; names.len()];
    // People are counted with the views where their sets fit a processor's cache, and else in a second pass, only for places
    // that can be on the page.
    let one_pass = names.len() as u64 * u64::from(largest_user) / 8 <= MOST_SET_BYTES;
    let mut users = People::default();
    if one_pass {
        users.count(0..names.len(), largest_user);
    }
    scan::visits(
        connection,
        &query.span,
        &query.selection,
        &mut |user, visit| {
            let place = number(&visit);
            views[place] += u64::from(visit.page_views);
            users.note(place, user);
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
        users.count(order.iter().copied(), largest_user);
        scan::visits(
            connection,
            &query.span,
            &query.selection,
            &mut |user, visit| users.note(number(&visit), user),
        )?;
    }
    let mut places: Vec<Place> = order
        .into_iter()
        .map(|place| Place {
            id: names[place].clone(),
            page_views: views[place],
            unique_users: users.of(place),
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

/// A page of the top places, and whether there is any session.
fn page_of(
    connection: &Connection,
    query: &Query,
    ranked: Ranked,
    page: &Page,
) -> Result<(Vec<Place>, String, u64), Error> {
    let revision = store::revision(connection)?;
    let offset = page.offset(revision)?;
    let end = offset.saturating_add(page.size);
    let (mut places, more) = top(connection, query, ranked, end)?;
    // Sessions may well view no such place.
    let mut sessions = places.len() as u64;
    if sessions == 0 {
        scan::sessions(connection, &query.span, &query.selection, &mut |_| {
            sessions += 1;
        })?;
    }
    let places = places.split_off(offset.min(places.len()));
    let token = if more {
        page.token_at(end, revision)
    } else {
        String::new()
    };
    Ok((places, token, sessions))
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
    let (places, next_page_token, sessions) = page_of(connection, &query, Ranked::Resources, page)?;
    let scope = query.scope(connection, sessions)?;
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
    let (places, next_page_token, sessions) = page_of(connection, &query, Ranked::Rooms, page)?;
    let scope = query.scope(connection, sessions)?;
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
