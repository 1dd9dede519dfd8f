//! `overlap partner`

use std::path::Path;

use overlap_client::{Invite, Partnership, PartnershipState, terminal::readable_time};

use super::{Context, confirm, first, read_text};
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
