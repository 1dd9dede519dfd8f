//! `overlap partner`

use std::path::Path;

use overlap_client::{
    Contact, Invite, OrganizationInfo, Partnership, PartnershipState, Timestamp,
    terminal::readable_time,
};
use serde::Serialize;

use super::{Context, confirm, failed, first, read_text};
use crate::{
    args::{Format, Partner},
    output::{Column, Value},
    table::Tone,
};

pub(super) async fn run(context: &mut Context, command: Partner) -> anyhow::Result<()> {
    match command {
        Partner::Invite {
            endpoint,
            valid_hours,
        } => {
            let client = context.client().await?;
            let invite = client
                .create_invite(endpoint.as_deref(), Some(valid_hours))
                .await?;
            show_invite(context, &invite)
        }
        Partner::Accept { invite, endpoint } => {
            let invite = if invite == "-" {
                read_text(Path::new("-"))?
            } else {
                invite
            };
            let client = context.client().await?;
            let partnership = client.accept_invite(&invite, endpoint.as_deref()).await?;
            show(context, &partnership)?;
            if context.printer.format == Format::Table {
                context
                    .printer
                    .line("Compare the fingerprint with the partner over another channel.")?;
            }
            Ok(())
        }
        Partner::List { connected } => {
            let client = context.client().await?;
            let partnerships = first(client.partnerships(connected), usize::MAX).await?;
            context.printer.list(
                &partnerships,
                &list_columns(context.printer.format),
                "No partners yet: \"overlap partner invite\" makes an invitation for one.",
            )
        }
        Partner::Show { partner } => {
            let partnership = context.client().await?.partnership(&partner).await?;
            show(context, &partnership)
        }
        Partner::Info {
            partner: Some(partner),
        } => {
            let told = context.client().await?.partner_info(&partner).await?;
            show_info(context, &told, &told.info, told.updated_at)
        }
        Partner::Info { partner: None } => {
            let told = context.client().await?.own_info().await?;
            show_info(context, &told, &told.info, told.updated_at)
        }
        Partner::SetInfo { file } => {
            let text = read_text(&file)?;
            let info: OrganizationInfo = toml::from_str(&text).map_err(|error| {
                let problem = error.to_string();
                failed("INVALID_ARGUMENT", format!("{}: {problem}", file.display()))
            })?;
            let told = context.client().await?.set_own_info(info).await?;
            show_info(context, &told, &told.info, told.updated_at)
        }
        Partner::Revoke { partner, yes } => {
            confirm(
                &format!(
                    "End the partnership with {partner} and remove everything derived from it?"
                ),
                yes,
            )?;
            let partnership = context.client().await?.revoke_partnership(&partner).await?;
            show(context, &partnership)
        }
    }
}

/// What an organisation says about itself; `answer` has all of it.
fn show_info(
    context: &mut Context,
    answer: &impl Serialize,
    info: &OrganizationInfo,
    updated_at: Option<Timestamp>,
) -> anyhow::Result<()> {
    let columns = [
        Column::text("name", |info: &OrganizationInfo| &info.name),
        Column::text("description", |info: &OrganizationInfo| &info.description),
        Column::text("website_uri", |info: &OrganizationInfo| &info.website_uri),
        Column::text("logo_uri", |info: &OrganizationInfo| &info.logo_uri),
        Column::text("industry", |info: &OrganizationInfo| &info.industry),
        Column::new("regions", |info: &OrganizationInfo| info.regions.join(";")),
        Column::new("updated_at", move |_: &OrganizationInfo| {
            Value::Time(updated_at)
        }),
        Column::new("contacts", |info: &OrganizationInfo| {
            let contacts = info.contacts.iter().map(contact);
            contacts.collect::<Vec<_>>().join("; ")
        }),
    ];
    let printer = &mut context.printer;
    match printer.format {
        Format::Json => printer.json(answer),
        Format::Csv => printer.csv_records(std::slice::from_ref(info), &columns),
        Format::Table => {
            printer.record(info, &columns[..7])?;
            if updated_at.is_none() {
                printer.line("Nothing more was told yet.")?;
            }
            if !info.contacts.is_empty() {
                printer.line("")?;
                printer.heading("Contacts")?;
                let columns = [
                    Column::text("name", |contact: &Contact| &contact.name),
                    Column::text("role", |contact: &Contact| &contact.role),
                    Column::text("email", |contact: &Contact| &contact.email),
                    Column::text("phone", |contact: &Contact| &contact.phone),
                ];
                printer.table(&info.contacts, &columns)?;
            }
            Ok(())
        }
    }
}

fn contact(contact: &Contact) -> String {
    [&contact.name, &contact.role, &contact.email, &contact.phone]
        .into_iter()
        .filter(|part| !part.is_empty())
        .cloned()
        .collect::<Vec<_>>()
        .join(", ")
}

fn show_invite(context: &mut Context, invite: &Invite) -> anyhow::Result<()> {
    let printer = &mut context.printer;
    if printer.format != Format::Table {
        let columns = [
            Column::text("invite", |invite: &Invite| &invite.invite),
            Column::text("fingerprint", |invite: &Invite| &invite.fingerprint),
            Column::new("expires_at", |invite: &Invite| {
                Value::Time(invite.expires_at)
            }),
        ];
        return printer.record(invite, &columns);
    }
    printer.line(&invite.invite)?;
    printer.line("")?;
    printer.line(&format!(
        "Hand this line to the partner over a trusted channel: it works once{}.",
        invite
            .expires_at
            .map(|time| format!(", until {}", readable_time(time)))
            .unwrap_or_default()
    ))?;
    printer.line(&format!(
        "This node's fingerprint, to read out: {}",
        invite.fingerprint
    ))
}

fn show(context: &mut Context, partnership: &Partnership) -> anyhow::Result<()> {
    context.printer.record(partnership, &columns())
}

fn columns() -> Vec<Column<'static, Partnership>> {
    vec![
        Column::text("id", |partnership: &Partnership| &partnership.id),
        Column::text("organization", |partnership: &Partnership| {
            &partnership.organization
        }),
        Column::new("state", |partnership: &Partnership| {
            state(partnership.state)
        }),
        Column::text("endpoint", |partnership: &Partnership| {
            &partnership.endpoint
        }),
        Column::text("fingerprint", |partnership: &Partnership| {
            &partnership.fingerprint
        }),
        Column::new("created_at", |partnership: &Partnership| {
            Value::Time(partnership.created_at)
        }),
        Column::new("connected_at", |partnership: &Partnership| {
            Value::Time(partnership.connected_at)
        }),
        Column::new("revoked_at", |partnership: &Partnership| {
            Value::Time(partnership.revoked_at)
        }),
    ]
}

/// A fingerprint would not fit beside the rest.
fn list_columns(format: Format) -> Vec<Column<'static, Partnership>> {
    let mut columns = columns();
    if format == Format::Table {
        columns.retain(|column| {
            ["organization", "state", "endpoint", "connected_at", "id"]
                .contains(&column.name.as_str())
        });
    }
    columns
}

fn state(state: PartnershipState) -> Value {
    let tone = match state {
        PartnershipState::Connected => Tone::Good,
        PartnershipState::Pending => Tone::Warning,
        _ => Tone::Dim,
    };
    Value::State(state.name().to_owned(), tone)
}
