//! `overlap token` and `overlap audit`

use overlap_client::{AuditEvent, NewToken, TokenWithSecret};

use super::{Context, first};
use crate::{
    args::{self, Audit, Format},
    output::{Column, Value},
};

pub(super) async fn token(context: &mut Context, command: args::Token) -> anyhow::Result<()> {
    match command {
        args::Token::Create {
            user,
            role,
            partner,
            valid_hours,
        } => {
            let token = NewToken {
                user,
                role,
                partner,
                valid_hours,
            };
            let created = context.client().await?.create_token(token).await?;
            show_created(context, &created)
        }
        args::Token::List => {
            let client = context.client().await?;
            let tokens = first(client.tokens(), usize::MAX).await?;
            context.printer.list(&tokens, &columns(), "No tokens.")
        }
        args::Token::Revoke { id } => {
            let token = context.client().await?.revoke_token(&id).await?;
            context.printer.record(&token, &columns())
        }
    }
}

fn show_created(context: &mut Context, created: &TokenWithSecret) -> anyhow::Result<()> {
    let printer = &mut context.printer;
    match printer.format {
        Format::Json => printer.json(created),
        Format::Csv => {
            let mut header: Vec<String> = columns().into_iter().map(|column| column.name).collect();
            header.push("secret".to_owned());
            let mut row: Vec<String> = columns()
                .iter()
                .map(|column| column.field(&created.token))
                .collect();
            row.push(created.secret.clone());
            printer.csv(&header, [row])
        }
        Format::Table => {
            printer.record(&created.token, &columns())?;
            printer.line("")?;
            printer.line(&created.secret)?;
            printer.line("")?;
            printer.line("The line above is the secret. It is not shown again; keep it in a file that only its user can read.")
        }
    }
}

fn columns() -> Vec<Column<'static, overlap_client::Token>> {
    use overlap_client::Token;
    vec![
        Column::text("id", |token: &Token| &token.id),
        Column::text("user", |token: &Token| &token.user),
        Column::new("role", |token: &Token| token.role.name()),
        Column::text("partner", |token: &Token| &token.partner),
        Column::new("created_at", |token: &Token| Value::Time(token.created_at)),
        Column::new("expires_at", |token: &Token| Value::Time(token.expires_at)),
        Column::new("revoked_at", |token: &Token| Value::Time(token.revoked_at)),
    ]
}

pub(super) async fn audit(context: &mut Context, command: Audit) -> anyhow::Result<()> {
    let Audit::List { partner, limit } = command;
    let client = context.client().await?;
    let events = first(client.audit_events(partner.as_deref()), limit).await?;
    let columns = [
        Column::number("sequence", |event: &AuditEvent| {
            // Not an amount: no thousands apart.
            event.sequence.to_string()
        }),
        Column::new("at", |event: &AuditEvent| Value::Time(event.at)),
        Column::text("actor", |event: &AuditEvent| &event.actor),
        Column::text("action", |event: &AuditEvent| &event.action),
        Column::text("partner", |event: &AuditEvent| &event.partner),
        Column::new("details", |event: &AuditEvent| {
            let details: Vec<String> = event
                .details
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            details.join(" ")
        }),
    ];
    context.printer.list(&events, &columns, "No audit events.")
}
