//! What connected organisations tell each other about themselves.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error,
    convert::{present, time},
    message::FromWire,
    v1,
};

/// A person to talk to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contact {
    /// The person's name.
    pub name: String,
    /// E.g. "Partner manager".
    pub role: String,
    /// An e-mail address.
    pub email: String,
    /// A telephone number.
    pub phone: String,
}

/// An organisation in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrganizationInfo {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// https only.
    pub website_uri: String,
    /// https only.
    pub logo_uri: String,
    /// Its industry.
    pub industry: String,
    /// Where it is active.
    pub regions: Vec<String>,
    /// At most 50.
    pub contacts: Vec<Contact>,
}

impl FromWire<v1::OrganizationInfo> for OrganizationInfo {
    fn from_wire(info: v1::OrganizationInfo) -> Result<Self, Error> {
        Ok(Self {
            name: info.name,
            description: info.description,
            website_uri: info.website_uri,
            logo_uri: info.logo_uri,
            industry: info.industry,
            regions: info.regions,
            contacts: info
                .contacts
                .into_iter()
                .map(|contact| Contact {
                    name: contact.name,
                    role: contact.role,
                    email: contact.email,
                    phone: contact.phone,
                })
                .collect(),
        })
    }
}

messages! {
    /// What a partner says about itself.
    PartnerInfo of v1::GetPartnerInfoResponse {
        /// The partnership's id.
        partner: String,
        /// Only the name, as it was when pairing, until the partner tells more.
        info: OrganizationInfo = "the info",
        /// Unset until the partner has told anything.
        updated_at: Option<Timestamp>,
    }

    /// What every connected partner is told about this organisation.
    OwnInfo of v1::GetOwnInfoResponse {
        info: OrganizationInfo = "the info",
        updated_at: Option<Timestamp>,
    }
}

impl From<OrganizationInfo> for v1::OrganizationInfo {
    fn from(info: OrganizationInfo) -> Self {
        Self {
            name: info.name,
            description: info.description,
            website_uri: info.website_uri,
            logo_uri: info.logo_uri,
            industry: info.industry,
            regions: info.regions,
            contacts: info
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

impl Client {
    /// What a partner says about itself.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn partner_info(&self, partner: &str) -> Result<PartnerInfo, Error> {
        let answer = ask!(
            self.partner_info_api()
                .get_partner_info(v1::GetPartnerInfoRequest {
                    partner: partner.to_owned(),
                })
        )
        .await?;
        PartnerInfo::from_wire(answer)
    }

    /// What every connected partner is told about this organisation.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn own_info(&self) -> Result<OwnInfo, Error> {
        let answer = ask!(
            self.partner_info_api()
                .get_own_info(v1::GetOwnInfoRequest {})
        )
        .await?;
        OwnInfo::from_wire(answer)
    }

    /// Replaces it, and tells every connected partner.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn set_own_info(&self, info: OrganizationInfo) -> Result<OwnInfo, Error> {
        let answer = ask!(self.partner_info_api().set_own_info(v1::SetOwnInfoRequest {
            info: Some(info.into()),
        }))
        .await?;
        Ok(OwnInfo {
            info: OrganizationInfo::from_wire(present(answer.info, "the info")?)?,
            updated_at: time(answer.updated_at),
        })
    }
}
