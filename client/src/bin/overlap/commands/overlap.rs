//! `overlap matrix`, `shared`, `customer`, `target` and `explain`

use std::collections::{BTreeMap, BTreeSet};

use overlap_client::{
    Client, EmptyReason, Error, Explanation, KeyExplanation, PageRequest, SharedCustomer,
    SharedFilter, Tier,
    view::{MatrixView, SharedView},
};

use super::Context;
use crate::{
    args::{Format, Shared, Target},
    grid,
    output::{Column, Printer, Value},
    table::{Entry, Tone, grouped},
};

/// The largest page to ask for.
const PAGE: u32 = 1000;

pub(super) async fn matrix(context: &mut Context, partner: &str) -> anyhow::Result<()> {
    let matrix = context.client().await?.matrix(partner).await?;
    let printer = &mut context.printer;
    match printer.format {
        Format::Json => printer.json(&MatrixView::from(&matrix)),
        Format::Csv => {
            let header = ["mine", "theirs", "state", "count"].map(str::to_owned);
            let rows = matrix.cells.iter().map(|cell| {
                vec![
                    cell.mine.clone(),
                    cell.theirs.clone(),
                    cell.state.name().to_owned(),
                    Value::from(cell.count).field(),
                ]
            });
            printer.csv(&header, rows)
        }
        Format::Table => {
            let text = grid::draw(printer.paint, partner, &matrix);
            printer.text(&text)
        }
    }
}

pub(super) async fn shared(context: &mut Context, arguments: Shared) -> anyhow::Result<()> {
    let client = context.client().await?;
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let mut pages = SharedPages {
        client: &client,
        partner: arguments.partner,
        filter: SharedFilter {
            mine: arguments.mine,
            theirs: arguments.theirs,
            search: arguments.search,
            targets_only: arguments.targets,
        },
        token: Some(String::new()),
        left: limit,
        total: 0,
        empty_reason: None,
    };
    let printer = &mut context.printer;
    if printer.format == Format::Json {
        // The first page comes before anything is printed: a refusal leaves no half a document.
        let mut page = pages.next().await?;
        let mut list = printer.json_list();
        while let Some(customers) = page {
            for customer in &customers {
                list.push(&SharedView::from(customer))?;
            }
            page = pages.next().await?;
        }
        return list.end();
    }
    let mut customers = Vec::new();
    while let Some(page) = pages.next().await? {
        customers.extend(page);
    }
    if printer.format == Format::Csv {
        return printer.csv_records(&customers, &csv_columns(&customers));
    }
    if customers.is_empty() {
        return printer.line(none(pages.empty_reason, &pages.filter));
    }
    printer.table(&customers, &table_columns(&customers))?;
    if (customers.len() as u64) < pages.total {
        printer.line(&format!(
            "{} of {}",
            grouped(customers.len() as u64),
            grouped(pages.total)
        ))?;
    }
    Ok(())
}

/// The pages of the list up to a limit, with what the pages say about the whole list.
struct SharedPages<'a> {
    client: &'a Client,
    partner: String,
    filter: SharedFilter,
    token: Option<String>,
    left: usize,
    total: u64,
    empty_reason: Option<EmptyReason>,
}

impl SharedPages<'_> {
    async fn next(&mut self) -> Result<Option<Vec<SharedCustomer>>, Error> {
        let Some(token) = self.token.take().filter(|_| self.left > 0) else {
            return Ok(None);
        };
        let request = PageRequest {
            size: u32::try_from(self.left).unwrap_or(PAGE).min(PAGE),
            token,
        };
        let mut page = self
            .client
            .list_shared_customers(&self.partner, &self.filter, request)
            .await?;
        page.customers.truncate(self.left);
        self.left -= page.customers.len();
        self.token = page.next;
        self.total = page.total;
        self.empty_reason = page.empty_reason;
        Ok(Some(page.customers))
    }
}

fn none(reason: Option<EmptyReason>, filter: &SharedFilter) -> &'static str {
    match reason {
        Some(EmptyReason::NoRun) => {
            "Nothing was matched with this partner yet: \"overlap match PARTNER\" starts a run. [NO_RUN]"
        }
        Some(EmptyReason::CountsOnly) => {
            "Only numbers are shared here: see \"overlap matrix\". [COUNTS_ONLY]"
        }
        Some(EmptyReason::NotShared) => "The partner does not share this stage. [NOT_SHARED]",
        Some(EmptyReason::Withheld) => "You do not share this stage. [WITHHELD]",
        _ if *filter == SharedFilter::default() => "No shared customers.",
        _ => "No shared customer matches.",
    }
}

fn list_columns() -> Vec<Column<'static, SharedCustomer>> {
    vec![
        Column::text("id", |customer: &SharedCustomer| &customer.id),
        Column::new("ids", |customer: &SharedCustomer| customer.ids.join(";")),
        Column::text("name", |customer: &SharedCustomer| &customer.name),
        Column::text("mine", |customer: &SharedCustomer| &customer.mine),
        Column::text("theirs", |customer: &SharedCustomer| &customer.theirs),
        Column::new("matched_on", |customer: &SharedCustomer| {
            matched_on(customer)
        }),
        Column::text("ref", |customer: &SharedCustomer| &customer.reference),
    ]
}

fn matched_on(customer: &SharedCustomer) -> String {
    let names: Vec<&str> = customer.matched_on.iter().map(|key| key.name()).collect();
    names.join(";")
}

/// One column for each field that the partner discloses with any of the customers.
fn field_columns(
    customers: &[SharedCustomer],
    prefix: &'static str,
    fields: fn(&SharedCustomer) -> &BTreeMap<String, String>,
) -> Vec<Column<'static, SharedCustomer>> {
    let names: BTreeSet<&String> = customers
        .iter()
        .flat_map(|customer| fields(customer).keys())
        .collect();
    names
        .into_iter()
        .map(|name| {
            let key = name.clone();
            Column::new(
                &format!("{prefix}{name}"),
                move |customer: &SharedCustomer| {
                    fields(customer).get(&key).map_or(Value::Unset, Value::from)
                },
            )
        })
        .collect()
}

fn csv_columns(customers: &[SharedCustomer]) -> Vec<Column<'static, SharedCustomer>> {
    let mut columns = list_columns();
    columns.extend(field_columns(customers, "partner.", |customer| {
        &customer.partner_fields
    }));
    columns
}

/// The handle is for programs, and all rows are in the details.
fn table_columns(customers: &[SharedCustomer]) -> Vec<Column<'static, SharedCustomer>> {
    let mut columns = list_columns();
    columns.retain(|column| !["ids", "ref"].contains(&&*column.name));
    if customers.iter().any(|customer| customer.target) {
        columns.push(Column::new("target", |customer: &SharedCustomer| {
            Value::Flag(customer.target)
        }));
    }
    columns.extend(field_columns(customers, "their ", |customer| {
        &customer.partner_fields
    }));
    columns
}

pub(super) async fn customer(
    context: &mut Context,
    partner: &str,
    id: &str,
    timeline: bool,
) -> anyhow::Result<()> {
    let client = context.client().await?;
    let customer = client.shared_customer(partner, id).await?;
    let timeline = match timeline {
        true => Some(client.timeline(partner, id).await?),
        false => None,
    };
    let mut columns = list_columns();
    columns.push(Column::new("target", |customer: &SharedCustomer| {
        Value::Flag(customer.target)
    }));
    columns.push(Column::new(
        "first_matched_at",
        |customer: &SharedCustomer| Value::Time(customer.first_matched_at),
    ));
    let printer = &mut context.printer;
    if printer.format == Format::Csv {
        let one = std::slice::from_ref(&customer);
        columns.extend(field_columns(one, "my.", |customer| &customer.my_fields));
        columns.extend(field_columns(one, "partner.", |customer| {
            &customer.partner_fields
        }));
    }
    if printer.format == Format::Json
        && let Some(timeline) = &timeline
    {
        let mut record = serde_json::to_value(&customer)?;
        record["timeline"] = serde_json::to_value(timeline)?;
        return printer.json(&record);
    }
    printer.record(&customer, &columns)?;
    if printer.format == Format::Table {
        show_fields(printer, "My fields", &customer.my_fields)?;
        show_fields(printer, "The partner's fields", &customer.partner_fields)?;
        if let Some(timeline) = &timeline {
            printer.line("")?;
            printer.report(
                timeline,
                super::timeline::events(timeline).titled("Timeline"),
            )?;
        }
    }
    Ok(())
}

fn show_fields(
    printer: &mut Printer,
    title: &str,
    fields: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    if fields.is_empty() {
        return Ok(());
    }
    printer.line("")?;
    printer.heading(title)?;
    let lines: Vec<(String, Entry)> = fields
        .iter()
        .map(|(name, value)| (Value::from(name).entry().text, Value::from(value).entry()))
        .collect();
    printer.properties(2, &lines)
}

pub(super) async fn target(context: &mut Context, command: Target) -> anyhow::Result<()> {
    let (targets, target, done) = match command {
        Target::Add(targets) => (targets, true, "marked as targets"),
        Target::Remove(targets) => (targets, false, "no longer targets"),
    };
    let client = context.client().await?;
    let changed = client
        .set_targets(&targets.partner, targets.ids, target)
        .await?;
    let printer = &mut context.printer;
    match printer.format {
        Format::Json => printer.json(&serde_json::json!({ "changed": changed })),
        Format::Csv => printer.csv(&["changed".to_owned()], [vec![changed.to_string()]]),
        Format::Table => printer.line(&format!("{} {done}", grouped(changed))),
    }
}

pub(super) async fn explain(context: &mut Context, partner: &str, id: &str) -> anyhow::Result<()> {
    let client = context.client().await?;
    let explanation = client.explain_customer(partner, id).await?;
    let columns = [
        Column::new("key_type", |key: &KeyExplanation| key.key_type.name()),
        Column::text("raw", |key: &KeyExplanation| &key.raw),
        Column::new("normalized", |key: &KeyExplanation| {
            key.normalized.as_ref().map_or(Value::Unset, Value::from)
        }),
        Column::new("outcome", |key: &KeyExplanation| outcome(&key.outcome)),
        Column::new("matched", |key: &KeyExplanation| {
            Value::from(match key.matched {
                Some(true) => "yes",
                Some(false) => "no",
                None => "not known",
            })
        }),
        Column::text("detail", |key: &KeyExplanation| &key.detail),
    ];
    let printer = &mut context.printer;
    match printer.format {
        Format::Json => printer.json(&explanation),
        Format::Csv => printer.csv_records(&explanation.keys, &columns),
        Format::Table => {
            printer.properties(0, &heading(&explanation))?;
            printer.line("")?;
            if explanation.keys.is_empty() {
                printer.line("The record has no identifiers.")?;
            } else {
                printer.table(&explanation.keys, &columns)?;
            }
            printer.line("")?;
            printer.line(&explanation.conclusion)
        }
    }
}

fn heading(explanation: &Explanation) -> Vec<(String, Entry)> {
    let tier = match explanation.tier {
        Tier::List => "list: the partner may learn who",
        Tier::Count => "count: the partner may learn how many",
        _ => "hidden: never matched",
    };
    let mut lines = vec![
        ("customer".to_owned(), Value::from(&explanation.id).entry()),
        ("stage".to_owned(), Value::from(&explanation.stage).entry()),
        ("tier".to_owned(), Value::from(tier).entry()),
    ];
    if explanation.merged_ids.len() > 1 {
        let merged = explanation.merged_ids.join(", ");
        lines.push((
            "merged".to_owned(),
            Value::from(format!("{merged}, as {}", explanation.merged_stage)).entry(),
        ));
    }
    lines
}

fn outcome(outcome: &str) -> Value {
    let tone = if outcome == "USED" {
        Tone::Good
    } else {
        Tone::Warning
    };
    Value::State(outcome.to_owned(), tone)
}
