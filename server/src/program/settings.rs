//! What an administrator can choose about the program's numbers.

use overlap_proto::v1;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Transaction};

use crate::{
    error::Error,
    records::{
        store,
        times::{DAY, Nanos},
    },
};

/// The settings, with the defaults for what was not chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(v1::ProgramSettings);

impl Settings {
    /// Types that partners may be filtered by.
    #[must_use]
    pub fn enabled_types(&self) -> Vec<v1::PartnerType> {
        if self.0.enabled_types.is_empty() {
            return vec![v1::PartnerType::Referral, v1::PartnerType::Reseller];
        }
        self.0.enabled_types().collect()
    }

    /// How long an open deal may stand still.
    #[must_use]
    pub fn stalled_after(&self) -> Nanos {
        Nanos::from(self.0.stalled_deal_days.unwrap_or(21)) * DAY
    }

    /// How long before its end a certification is called expiring.
    #[must_use]
    pub fn expiring_within(&self) -> Nanos {
        Nanos::from(self.0.certification_expiry_days.unwrap_or(30)) * DAY
    }

    /// By how many percent a metric must change to be a swing.
    #[must_use]
    pub fn swing_percent(&self) -> u32 {
        self.0.swing_percent.unwrap_or(50)
    }

    /// By how many percentage points a region's approval rate must drop.
    #[must_use]
    pub fn approval_drop_points(&self) -> u32 {
        self.0.approval_drop_points.unwrap_or(20)
    }

    /// The chance of winning a deal in a stage, in ten-thousandths.
    #[must_use]
    pub fn probability_bp(&self, stage: &str) -> Option<u32> {
        self.0
            .stage_probabilities
            .iter()
            .find(|entry| entry.stage == stage)
            .map(|entry| entry.probability_bp)
    }

    /// The message, defaults filled in.
    #[must_use]
    pub fn to_proto(&self) -> v1::ProgramSettings {
        v1::ProgramSettings {
            enabled_types: self
                .enabled_types()
                .into_iter()
                .map(|kind| kind as i32)
                .collect(),
            stalled_deal_days: Some(self.0.stalled_deal_days.unwrap_or(21)),
            certification_expiry_days: Some(self.0.certification_expiry_days.unwrap_or(30)),
            swing_percent: Some(self.swing_percent()),
            approval_drop_points: Some(self.approval_drop_points()),
            stage_probabilities: self.0.stage_probabilities.clone(),
        }
    }
}

/// The settings in force.
///
/// # Errors
/// What the store reports.
pub fn load(connection: &Connection) -> Result<Settings, Error> {
    let body: Option<Vec<u8>> = connection
        .prepare_cached("SELECT body FROM program_settings WHERE id = 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let settings = match body {
        None => v1::ProgramSettings::default(),
        Some(body) => v1::ProgramSettings::decode(&*body)
            .map_err(|error| Error::internal(format!("program settings: {error}")))?,
    };
    Ok(Settings(settings))
}

/// Changes the settings that the mask names, all of them without a mask.
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong value or an unknown field.
pub fn update(
    transaction: &Transaction<'_>,
    request: v1::UpdateProgramSettingsRequest,
) -> Result<Settings, Error> {
    let new = request.settings.unwrap_or_default();
    check(&new)?;
    let mut settings = load(transaction)?.0;
    let paths = request.update_mask.map(|mask| mask.paths);
    match paths.as_deref() {
        None | Some([]) => settings = new,
        Some(paths) => {
            for path in paths {
                match path.as_str() {
                    "enabled_types" => settings.enabled_types.clone_from(&new.enabled_types),
                    "stalled_deal_days" => settings.stalled_deal_days = new.stalled_deal_days,
                    "certification_expiry_days" => {
                        settings.certification_expiry_days = new.certification_expiry_days;
                    }
                    "swing_percent" => settings.swing_percent = new.swing_percent,
                    "approval_drop_points" => {
                        settings.approval_drop_points = new.approval_drop_points;
                    }
                    "stage_probabilities" => settings
                        .stage_probabilities
                        .clone_from(&new.stage_probabilities),
                    other => {
                        return Err(Error::invalid(
                            "update_mask",
                            format!("\"{other}\" is not a field of ProgramSettings"),
                        ));
                    }
                }
            }
        }
    }
    transaction.execute(
        "INSERT INTO program_settings (id, body) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET body = ?1",
        [settings.encode_to_vec()],
    )?;
    store::count_change(transaction, false)?;
    Ok(Settings(settings))
}

fn check(settings: &v1::ProgramSettings) -> Result<(), Error> {
    for &code in &settings.enabled_types {
        if !matches!(
            v1::PartnerType::try_from(code),
            Ok(v1::PartnerType::Referral | v1::PartnerType::Reseller)
        ) {
            return Err(Error::invalid(
                "settings.enabled_types",
                "is not a partner type",
            ));
        }
    }
    let limits = [
        ("stalled_deal_days", settings.stalled_deal_days, 3650),
        (
            "certification_expiry_days",
            settings.certification_expiry_days,
            3650,
        ),
        ("swing_percent", settings.swing_percent, 1_000_000),
        ("approval_drop_points", settings.approval_drop_points, 100),
    ];
    for (field, value, most) in limits {
        if value.is_some_and(|value| value > most) {
            return Err(Error::invalid(
                format!("settings.{field}"),
                format!("must be at most {most}"),
            ));
        }
    }
    for (at, entry) in settings.stage_probabilities.iter().enumerate() {
        if entry.stage.is_empty() || entry.probability_bp > 10_000 {
            return Err(Error::invalid(
                format!("settings.stage_probabilities[{at}]"),
                "must name a stage and be at most 10000",
            ));
        }
    }
    Ok(())
}
