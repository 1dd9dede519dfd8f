//! `overlap sharing`

use overlap_client::{Sharing, SharingPolicy, SharingState, Stage};
use overlap_proto::policy_file;

use super::{Context, confirm, failed, read_text};
use crate::{
    args::{self, Format},
    output::Value,
    table::{Entry, Tone},
};

pub(super) async fn run(context: &mut Context, command: args::Sharing) -> anyhow::Result<()> {
    let (partner, sharing) = match command {
        args::Sharing::Set { partner, file } => {
            let text = read_text(&file)?;
            let policy = policy_file::parse(&text, &file.display().to_string())
                .map_err(|error| failed("INVALID_ARGUMENT", error.to_string()))?;
            let client = context.client().await?;
            let sharing = client.set_policy(&partner, policy.into()).await?;
            (partner, sharing)
        }
        args::Sharing::Show { partner } => {
            let sharing = context.client().await?.sharing(&partner).await?;
            (partner, sharing)
        }
        args::Sharing::Approve { partner } => {
            let sharing = context.client().await?.approve_proposal(&partner).await?;
            (partner, sharing)
        }
        args::Sharing::Decline { partner } => {
            let sharing = context.client().await?.decline_proposal(&partner).await?;
            (partner, sharing)
        }
        args::Sharing::Revoke { partner, yes } => {
            confirm(
                &format!("Stop sharing with {partner}, both ways, and remove what was found?"),
                yes,
            )?;
            let sharing = context.client().await?.revoke_sharing(&partner).await?;
            (partner, sharing)
        }
    };
    show(context, &partner, &sharing)
}

/// `partner` is what the person calls the partner; the record has its id.
fn show(context: &mut Context, partner: &str, sharing: &Sharing) -> anyhow::Result<()> {
    let printer = &mut context.printer;
    let sides = [
        ("mine", "You disclose", &sharing.mine, &sharing.my_stages),
        (
            "theirs",
            "The partner discloses",
            &sharing.theirs,
            &sharing.their_stages,
        ),
    ];
    match printer.format {
        Format::Json => printer.json(sharing),
        Format::Csv => {
            let header = ["side", "setting", "name", "value"].map(str::to_owned);
            let state = ["", "state", "", sharing.state.name()].map(str::to_owned);
            let mut rows = vec![state.to_vec()];
            for (side, _, policy, stages) in sides {
                for setting in policy.iter().flat_map(|policy| settings(policy, stages)) {
                    rows.push(vec![
                        side.to_owned(),
                        setting.kind.to_owned(),
                        setting.name,
                        setting.value,
                    ]);
                }
            }
            printer.csv(&header, rows)
        }
        Format::Table => {
            printer.heading(&format!("Sharing with {partner}"))?;
            let mut lines = vec![("state".to_owned(), state(sharing.state))];
            if !sharing.terms_hash.is_empty() {
                lines.push(("terms".to_owned(), Value::from(&sharing.terms_hash).entry()));
            }
            if sharing.updated_at.is_some() {
                lines.push((
                    "updated".to_owned(),
                    Value::Time(sharing.updated_at).entry(),
                ));
            }
            printer.properties(0, &lines)?;
            for (_, title, policy, stages) in sides {
                printer.line("")?;
                let Some(policy) = policy else {
                    printer.line(&format!("{title} nothing yet."))?;
                    continue;
                };
                printer.heading(title)?;
                let lines: Vec<(String, Entry)> = settings(policy, stages)
                    .into_iter()
                    .map(|setting| {
                        let name = if setting.kind == "stage" {
                            format!("stage {}", setting.name)
                        } else {
                            setting.kind.replace('_', " ")
                        };
                        (
                            Value::from(name).entry().text,
                            Value::from(setting.value).entry(),
                        )
                    })
                    .collect();
                printer.properties(2, &lines)?;
            }
            if let Some(hint) = hint(partner, sharing) {
                printer.line("")?;
                printer.line(&hint)?;
            }
            Ok(())
        }
    }
}

fn state(state: SharingState) -> Entry {
    let tone = match state {
        SharingState::Active => Tone::Good,
        SharingState::Proposed | SharingState::AwaitingMyDecision => Tone::Warning,
        SharingState::Declined | SharingState::Revoked => Tone::Bad,
        _ => Tone::Dim,
    };
    Value::State(state.name().to_owned(), tone).entry()
}

/// What to do next.
fn hint(partner: &str, sharing: &Sharing) -> Option<String> {
    match sharing.state {
        SharingState::None | SharingState::Declined | SharingState::Revoked => Some(format!(
            "Propose permissions: overlap sharing set {partner} --file FILE"
        )),
        SharingState::AwaitingMyDecision => Some(format!(
            "Decide: overlap sharing approve {partner}, or decline, or set --file FILE to change and approve"
        )),
        SharingState::Proposed => Some("The partner has to approve.".to_owned()),
        _ => None,
    }
}

struct Setting {
    kind: &'static str,
    name: String,
    value: String,
}

fn settings(policy: &SharingPolicy, stages: &[Stage]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |kind, name: &str, value: String| {
        settings.push(Setting {
            kind,
            name: name.to_owned(),
            value,
        });
    };
    // By lifecycle, and what the lifecycle does not know after it.
    let known = stages.iter().map(|stage| &stage.id);
    let unknown = policy
        .stages
        .keys()
        .filter(|id| !stages.iter().any(|stage| stage.id == **id));
    for id in known.chain(unknown) {
        let tier = policy.stages.get(id);
        set(
            "stage",
            id,
            tier.map_or("hidden", |tier| tier.name()).to_owned(),
        );
    }
    let keys: Vec<&str> = policy.match_on.iter().map(|key| key.name()).collect();
    set("match_on", "", keys.join(", "));
    set(
        "domain_from_email",
        "",
        yes_no(policy.domain_from_email).to_owned(),
    );
    set("shared_fields", "", policy.shared_fields.join(", "));
    set("timeline", "", yes_no(policy.timeline).to_owned());
    set("min_count", "", policy.min_count.to_string());
    set(
        "count_by_count",
        "",
        yes_no(policy.count_by_count).to_owned(),
    );
    set(
        "label_field_bytes",
        "",
        policy.label_field_bytes.to_string(),
    );
    set("padding", "", policy.padding.to_string());
    set(
        "max_evaluations_per_epoch",
        "",
        policy.max_evaluations_per_epoch.to_string(),
    );
    set("min_interval_s", "", policy.min_interval_s.to_string());
    settings
}

const fn yes_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}
