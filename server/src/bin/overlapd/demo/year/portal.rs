//! What the partners' people did in the portal.

use jiff::SignedDuration;
use overlap_proto::v1::{self, PortalEventKind as Kind, record::Content};

use super::{DAYS, Year, wire};

const ROOMS: [(&str, &str); 4] = [
    ("room-start", "Getting started"),
    ("room-sell", "Selling together"),
    ("room-build", "Integration"),
    ("room-news", "News"),
];

/// Id, title and the room it is in.
const RESOURCES: [(&str, &str, usize); 8] = [
    ("res-deck", "Pitch deck", 1),
    ("res-battle", "Battle card", 1),
    ("res-price", "Price list", 1),
    ("res-guide", "Integration guide", 2),
    ("res-api", "API reference", 2),
    ("res-welcome", "Welcome video", 0),
    ("res-rules", "Program rules", 0),
    ("res-letter", "Newsletter", 3),
];

/// What people do besides looking at pages.
const ACTIONS: [Kind; 6] = [
    Kind::DownloadFile,
    Kind::ClickLink,
    Kind::ViewDeal,
    Kind::ViewLead,
    Kind::PlayUploadedVideo,
    Kind::UseSearch,
];

impl Year {
    /// Rooms, resources, and a year of visits.
    pub(super) fn portal(&mut self) {
        for (id, title) in ROOMS {
            let room = v1::RoomRecord {
                title: title.to_owned(),
            };
            self.push(id.to_owned(), Content::Room(room));
        }
        for (id, title, room) in RESOURCES {
            let resource = v1::ResourceRecord {
                title: title.to_owned(),
                uri: format!("https://portal.example/{id}"),
                room: ROOMS[room].0.to_owned(),
            };
            self.push(id.to_owned(), Content::Resource(resource));
        }
        for partner in self.program() {
            for person in 0..partner.people {
                let user = format!("{}-{person}", partner.id);
                for week in 0..DAYS / 7 {
                    // The first person of a partner comes more often than the last.
                    let odds = partner.sessions_in_100_weeks + 30 * (partner.people - person - 1);
                    let visits = match partner.sessions_in_100_weeks {
                        0 => 0,
                        _ => odds / 100 + u64::from(self.random.below(100) < odds % 100),
                    };
                    for visit in 0..visits {
                        self.visit(partner.id, &user, week, visit);
                    }
                }
            }
        }
    }

    /// One sitting: a few pages and something done with them.
    fn visit(&mut self, partner: &str, user: &str, week: u64, visit: u64) {
        // A day of its own for every visit of a week, and never later than now.
        let days = week * 7 + 1 + (2 * visit + self.random.below(2)) % 7;
        let mut at = self.ago(days);
        let last_minutes = self.now.as_second() - 60;
        for number in 0..2 + self.random.below(7) {
            let (resource, _, room) = *self.random.pick(&RESOURCES);
            let kind = match self.random.below(10) {
                0..=5 => Kind::PageView,
                _ => *self.random.pick(&ACTIONS),
            };
            let event = v1::PortalEventRecord {
                partner: partner.to_owned(),
                user: user.to_owned(),
                at: Some(wire(at)),
                kind: kind.into(),
                room: ROOMS[room].0.to_owned(),
                resource: resource.to_owned(),
            };
            self.push(
                format!("{user}-{week}-{visit}-{number}"),
                Content::PortalEvent(event),
            );
            let pause = 20 + self.random.below(340) as i64;
            if at.as_second() + pause > last_minutes {
                break;
            }
            at += SignedDuration::from_secs(pause);
        }
    }
}
