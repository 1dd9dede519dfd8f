//! `overlap program settings`

use overlap_client::{Client, ProgramSettings, StageProbability, terminal::figures};

use crate::{
    args::{Settings, SettingsChanges},
    commands::failed,
    output::{Printer, Report, Sheet, Value},
};

pub(super) async fn run(
    client: &Client,
    printer: &mut Printer,
    command: Settings,
) -> anyhow::Result<()> {
    let settings = match command {
        Settings::Show => client.program_settings().await?,
        Settings::Set(changes) => {
            let (settings, fields) = changed(changes)?;
            client.update_program_settings(settings, &fields).await?
        }
    };
    show(printer, &settings)
}

/// The settings with what is to change, and the names of what is.
fn changed(changes: SettingsChanges) -> anyhow::Result<(ProgramSettings, Vec<&'static str>)> {
    let SettingsChanges {
        stalled_deal_days,
        certification_expiry_days,
        swing_percent,
        approval_drop_points,
        enabled_types,
        probabilities,
    } = changes;
    let stage_probabilities = probabilities
        .iter()
        .map(|text| probability(text))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let named = [
        ("stalled_deal_days", stalled_deal_days.is_some()),
        (
            "certification_expiry_days",
            certification_expiry_days.is_some(),
        ),
        ("swing_percent", swing_percent.is_some()),
        ("approval_drop_points", approval_drop_points.is_some()),
        ("enabled_types", !enabled_types.is_empty()),
        ("stage_probabilities", !stage_probabilities.is_empty()),
    ];
    let fields: Vec<&'static str> = named
        .into_iter()
        .filter_map(|(field, named)| named.then_some(field))
        .collect();
    if fields.is_empty() {
        return Err(failed(
            "INVALID_ARGUMENT",
            "nothing to change: name a setting, e.g. --stalled-deal-days 30",
        ));
    }
    let settings = ProgramSettings {
        enabled_types,
        stalled_deal_days,
        certification_expiry_days,
        swing_percent,
        approval_drop_points,
        stage_probabilities,
    };
    Ok((settings, fields))
}

/// "Proposal=40" or "Proposal=37.5", in percent.
fn probability(text: &str) -> anyhow::Result<StageProbability> {
    let parsed = text.split_once('=').and_then(|(stage, percent)| {
        let (whole, fraction) = percent.split_once('.').unwrap_or((percent, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if stage.is_empty()
            || whole.is_empty()
            || fraction.len() > 2
            || !digits(whole)
            || !digits(fraction)
        {
            return None;
        }
        let probability_bp: u32 = format!("{whole}{fraction:0<2}").parse().ok()?;
        (probability_bp <= 10_000).then(|| StageProbability {
            stage: stage.to_owned(),
            probability_bp,
        })
    });
    parsed.ok_or_else(|| {
        failed(
            "INVALID_ARGUMENT",
            format!("--probability: \"{text}\" is not STAGE=PERCENT, e.g. Proposal=40"),
        )
    })
}

fn show(printer: &mut Printer, settings: &ProgramSettings) -> anyhow::Result<()> {
    let mut sheet = Sheet::new().text("setting").number("value");
    let name = |name: &str| Value::Shown {
        text: name.replace('_', " "),
        field: name.to_owned(),
    };
    for (setting, value) in [
        ("stalled_deal_days", settings.stalled_deal_days),
        (
            "certification_expiry_days",
            settings.certification_expiry_days,
        ),
        ("swing_percent", settings.swing_percent),
        ("approval_drop_points", settings.approval_drop_points),
    ] {
        sheet.push(vec![name(setting), value.map(u64::from).into()]);
    }
    let types: Vec<&str> = settings
        .enabled_types
        .iter()
        .map(|kind| kind.name())
        .collect();
    sheet.push(vec![
        name("enabled_types"),
        Value::Shown {
            text: if types.is_empty() {
                "all".to_owned()
            } else {
                types.join(", ")
            },
            field: types.join(";"),
        },
    ]);
    for chance in &settings.stage_probabilities {
        let ratio = f64::from(chance.probability_bp) / 10_000.0;
        sheet.push(vec![
            Value::Shown {
                text: format!("probability of {}", chance.stage),
                field: format!("stage_probabilities.{}", chance.stage),
            },
            Value::Shown {
                text: figures::percent(ratio),
                field: chance.probability_bp.to_string(),
            },
        ]);
    }
    printer.report(settings, Report::new(sheet, "").titled("Settings"))
}

#[cfg(test)]
mod tests {
    use super::probability;

    #[test]
    fn probabilities_are_percent() {
        assert_eq!(probability("Proposal=40").unwrap().probability_bp, 4_000);
        assert_eq!(probability("Won=100").unwrap().probability_bp, 10_000);
        assert_eq!(probability("Early=2.25").unwrap().probability_bp, 225);
        for wrong in ["Proposal", "=4", "P=", "P=101", "P=-1", "P=4%", "P=1.234"] {
            let error = probability(wrong).unwrap_err().to_string();
            assert!(error.contains("STAGE=PERCENT"), "{wrong}: {error}");
        }
    }
}
