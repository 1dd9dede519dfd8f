//! What connected organisations tell each other about themselves.

use std::sync::Arc;

use jiff::Timestamp;
use overlap_proto::v1::{
    self, GetOwnInfoRequest, GetOwnInfoResponse, GetPartnerInfoRequest, GetPartnerInfoResponse,
    SetOwnInfoRequest, SetOwnInfoResponse, partner_info_service_server::PartnerInfoService,
};
use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};

use crate::{
    audit,
    auth::{Caller, Role},
    changes::{self, Kind},
    collaboration::{line, paragraph},
    convert::{stored_time, timestamp},
    error::{Error, Reason},
    node::{Node, Registry},
    notices::{self, Incoming},
    partnership,
};

const UPDATED: &str = "partner_info.updated";
const MAX_CHARS: usize = 200;
const MAX_URI_CHARS: usize = 2_000;
const MAX_CONTACTS: usize = 50;
const MAX_REGIONS: usize = 100;

/// An organisation in its own words, as it crosses the wire and as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    name: String,
    description: String,
    website_uri: String,
    logo_uri: String,
    industry: String,
    regions: Vec<String>,
    contacts: Vec<Contact>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contact {
    name: String,
    role: String,
    email: String,
    phone: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Updated {
    revision: u64,
    info: Info,
}

impl Info {
    /// Checks every field; used for the caller's and, through [`Info::believe`], for the partner's.
    fn parse(info: v1::OrganizationInfo) -> Result<Self, Error> {
        let mut regions = Vec::new();
        if info.regions.len() > MAX_REGIONS {
            return Err(Error::invalid(
                "info.regions",
                format!("at most {MAX_REGIONS}"),
            ));
        }
        for (index, region) in info.regions.iter().enumerate() {
            regions.push(line(&format!("info.regions[{index}]"), region, MAX_CHARS)?);
        }
        if info.contacts.len() > MAX_CONTACTS {
            return Err(Error::invalid(
                "info.contacts",
                format!("at most {MAX_CONTACTS}"),
            ));
        }
        let mut contacts = Vec::new();
        for (index, contact) in info.contacts.iter().enumerate() {
            let field = |name: &str| format!("info.contacts[{index}].{name}");
            let contact = Contact {
                name: line(&field("name"), &contact.name, MAX_CHARS)?,
                role: line(&field("role"), &contact.role, MAX_CHARS)?,
                email: line(&field("email"), &contact.email, MAX_CHARS)?,
                phone: line(&field("phone"), &contact.phone, MAX_CHARS)?,
            };
            if contact.name.is_empty() {
                return Err(Error::invalid(field("name"), "must be set"));
            }
            if !contact.email.is_empty() && !contact.email.contains('@') {
                return Err(Error::invalid(field("email"), "is not an e-mail address"));
            }
            contacts.push(contact);
        }
        Ok(Self {
            name: line("info.name", &info.name, MAX_CHARS)?,
            description: paragraph("info.description", &info.description)?,
            website_uri: uri("info.website_uri", &info.website_uri)?,
            logo_uri: uri("info.logo_uri", &info.logo_uri)?,
            industry: line("info.industry", &info.industry, MAX_CHARS)?,
            regions,
            contacts,
        })
    }

    /// Checks what a partner's node says.
    fn believe(self) -> Result<Self, Error> {
        Self::parse(self.into_proto())
            .map_err(|error| Error::new(Reason::PeerFault, format!("partner information: {error}")))
    }

    fn into_proto(self) -> v1::OrganizationInfo {
        v1::OrganizationInfo {
            name: self.name,
            description: self.description,
            website_uri: self.website_uri,
            logo_uri: self.logo_uri,
            industry: self.industry,
            regions: self.regions,
            contacts: self
                .contacts
                .into_iter()
                .map(|contact| v1::Contact {
                    name: contact.name,
                    role: contact.role,
                    email: contact.email,
                    phone: contact.phone,
                })
                .collect(),
        }
    }
}

/// A link that people follow: https, so that nobody on the way changes what they see.
fn uri(field: &str, text: &str) -> Result<String, Error> {
    let text = line(field, text, MAX_URI_CHARS)?;
    let is_https = text
        .get(..8)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    if text.is_empty() || (is_https && !text.contains(char::is_whitespace)) {
        return Ok(text);
    }
    Err(Error::invalid(
        field,
        "must begin with https:// and have no blanks",
    ))
}

/// Registers what partners may say.
pub fn register(registry: &mut Registry) {
    registry.on_notice(UPDATED, updated);
}

fn updated(notice: &Incoming<'_>) -> Result<(), Error> {
    let body: Updated = notice.body()?;
    let info = body.info.believe()?;
    let changed = notice
        .tx
        .prepare_cached(
            "INSERT INTO partner_infos (partnership, told_revision, revision, body, updated_us) VALUES (?1, 0, ?2, ?3, ?4) \
             ON CONFLICT (partnership) DO UPDATE SET revision = ?2, body = ?3, updated_us = ?4 WHERE revision < ?2",
        )?
        .execute(params![
            notice.partnership.id,
            body.revision,
            encode(&info)?,
            notice.at.as_microsecond()
        ])?;
    if changed == 0 {
        return Ok(());
    }
    let id = &notice.partnership.id;
    changes::record(
        notice.tx,
        notice.at,
        Kind::PartnerInfoUpdated,
        Some(id),
        id,
        &[],
    )?;
    audit::record(
        notice.tx,
        notice.at,
        &audit::partner(id),
        "partner_info.updated",
        Some(id),
        &[],
    )
}

/// Tells a partner about this organisation if it does not know the latest.
///
/// # Errors
/// What the store reports.
pub(crate) fn tell(node: &Node, partnership: &str) -> Result<(), Error> {
    let is_behind = node
        .store
        .read_blocking(|connection| is_behind(connection, partnership))?;
    if !is_behind {
        return Ok(());
    }
    node.store
        .write_blocking(|tx| tell_within(node, tx, partnership))
}

fn is_behind(connection: &Connection, partnership: &str) -> Result<bool, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM own_info o LEFT JOIN partner_infos p ON p.partnership = ? \
             WHERE o.revision > ifnull(p.told_revision, 0))",
        )?
        .query_row([partnership], |row| row.get(0))?)
}

fn tell_within(node: &Node, tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    let Some((revision, info, _)) = own(tx)? else {
        return Ok(());
    };
    if !is_behind(tx, partnership)? || partnership::if_connected(tx, partnership)?.is_none() {
        return Ok(());
    }
    notices::enqueue(node, tx, partnership, UPDATED, &Updated { revision, info })?;
    tx.prepare_cached(
        "INSERT INTO partner_infos (partnership, told_revision, revision, body, updated_us) VALUES (?1, ?2, 0, x'', 0) \
         ON CONFLICT (partnership) DO UPDATE SET told_revision = ?2",
    )?
    .execute(params![partnership, revision])?;
    Ok(())
}

/// Removes what a partner told of itself, and what it was told.
///
/// # Errors
/// What the store reports.
pub(crate) fn forget(tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM partner_infos WHERE partnership = ?",
        [partnership],
    )?;
    Ok(())
}

fn own(connection: &Connection) -> Result<Option<(u64, Info, Timestamp)>, Error> {
    let mut statement =
        connection.prepare_cached("SELECT revision, body, updated_us FROM own_info")?;
    let mut rows = statement.query([])?;
    match rows.next()? {
        Some(row) => Ok(Some((
            row.get(0)?,
            decode(row.get_ref(1)?.as_blob().unwrap_or_default())?,
            stored_time(row, 2)?,
        ))),
        None => Ok(None),
    }
}

fn partner(connection: &Connection, partnership: &str) -> Result<Option<(Info, Timestamp)>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT body, updated_us FROM partner_infos WHERE partnership = ? AND revision > 0",
    )?;
    let mut rows = statement.query([partnership])?;
    match rows.next()? {
        Some(row) => Ok(Some((
            decode(row.get_ref(0)?.as_blob().unwrap_or_default())?,
            stored_time(row, 1)?,
        ))),
        None => Ok(None),
    }
}

fn encode(info: &Info) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(info)
        .map_err(|error| Error::internal(format!("partner information: {error}")))
}

fn decode(body: &[u8]) -> Result<Info, Error> {
    serde_json::from_slice(body).map_err(|_| {
        Error::new(
            Reason::StorageFailed,
            "stored partner information is damaged",
        )
    })
}

/// `overlap.v1.PartnerInfoService`.
pub struct Service {
    node: Arc<Node>,
}

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn name_only(&self) -> Info {
        Info {
            name: self.node.config.organization.clone(),
            ..Info::default()
        }
    }
}

#[tonic::async_trait]
impl PartnerInfoService for Service {
    async fn get_partner_info(
        &self,
        request: Request<GetPartnerInfoRequest>,
    ) -> Result<Response<GetPartnerInfoResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let request = request.into_inner();
        let response = self
            .node
            .store
            .read(move |connection| {
                let partnership = partnership::connected(connection, &request.partner)?;
                let (info, updated_at) = match partner(connection, &partnership.id)? {
                    Some((info, at)) => (info, Some(timestamp(at))),
                    None => (
                        Info {
                            name: partnership.organization,
                            ..Info::default()
                        },
                        None,
                    ),
                };
                Ok(GetPartnerInfoResponse {
                    partner: partnership.id,
                    info: Some(info.into_proto()),
                    updated_at,
                })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn get_own_info(
        &self,
        request: Request<GetOwnInfoRequest>,
    ) -> Result<Response<GetOwnInfoResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let (info, updated_at) = match self.node.store.read(own).await? {
            Some((_, info, at)) => (info, Some(timestamp(at))),
            None => (self.name_only(), None),
        };
        Ok(Response::new(GetOwnInfoResponse {
            info: Some(info.into_proto()),
            updated_at,
        }))
    }

    async fn set_own_info(
        &self,
        request: Request<SetOwnInfoRequest>,
    ) -> Result<Response<SetOwnInfoResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::ADMINS)?;
        let info = request
            .into_inner()
            .info
            .ok_or_else(|| Error::invalid("info", "must be set"))?;
        let mut info = Info::parse(info)?;
        if info.name.is_empty() {
            info.name.clone_from(&self.node.config.organization);
        }
        let node = Arc::clone(&self.node);
        let (info, at) = self
            .node
            .store
            .write(move |tx| {
                let now = node.now();
                let before = own(tx)?;
                if let Some((_, known, at)) = &before
                    && *known == info
                {
                    return Ok((info, *at));
                }
                // Microseconds, so that a store restored from a backup does not count again from where it was.
                let clock = u64::try_from(now.as_microsecond()).unwrap_or(0);
                let revision = before.map_or(1, |(revision, _, _)| revision + 1).max(clock);
                tx.execute(
                    "INSERT OR REPLACE INTO own_info (singleton, revision, body, updated_us) VALUES (1, ?, ?, ?)",
                    params![revision, encode(&info)?, now.as_microsecond()],
                )?;
                audit::record(tx, now, &caller.token_id, "partner_info.set", None, &[])?;
                let partnerships: Vec<String> = tx
                    .prepare_cached("SELECT id FROM partnerships WHERE state = 'CONNECTED'")?
                    .query_map([], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                for partnership in partnerships {
                    tell_within(&node, tx, &partnership)?;
                }
                Ok((info, now))
            })
            .await?;
        Ok(Response::new(SetOwnInfoResponse {
            info: Some(info.into_proto()),
            updated_at: Some(timestamp(at)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> v1::OrganizationInfo {
        v1::OrganizationInfo {
            name: " Acme ".to_owned(),
            website_uri: "https://acme.example".to_owned(),
            contacts: vec![v1::Contact {
                name: "Ada".to_owned(),
                role: "Partner manager".to_owned(),
                email: "ada@acme.example".to_owned(),
                phone: String::new(),
            }],
            ..Default::default()
        }
    }

    #[test]
    fn p03_information_round_trips_and_is_checked() {
        let parsed = Info::parse(info()).unwrap();
        assert_eq!(parsed.name, "Acme");
        let stored = decode(&encode(&parsed).unwrap()).unwrap();
        assert_eq!(stored.clone().believe().unwrap(), parsed);
        assert_eq!(Info::parse(stored.into_proto()).unwrap(), parsed);

        let wrong = |change: &dyn Fn(&mut v1::OrganizationInfo)| {
            let mut info = info();
            change(&mut info);
            Info::parse(info).unwrap_err().message().to_owned()
        };
        assert_eq!(
            wrong(&|info| info.logo_uri = "http://acme.example/logo.png".to_owned()),
            "info.logo_uri: must begin with https:// and have no blanks"
        );
        assert_eq!(
            wrong(&|info| info.contacts[0].name.clear()),
            "info.contacts[0].name: must be set"
        );
        assert!(
            wrong(&|info| info.contacts = vec![v1::Contact::default(); 51]).contains("at most 50")
        );
        let hostile = Info {
            logo_uri: "javascript:alert(1)".to_owned(),
            ..Info::default()
        };
        assert_eq!(hostile.believe().unwrap_err().reason(), Reason::PeerFault);
    }
}
