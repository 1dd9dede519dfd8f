//! The settings of the program.

use serde::{Deserialize, Serialize};

use crate::{Client, Error, PartnerType, convert::present, message::FromWire, v1};

/// How likely deals of a stage are won.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageProbability {
    /// The sales stage.
    pub stage: String,
    /// In ten-thousandths.
    pub probability_bp: u32,
}

/// The settings of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProgramSettings {
    /// Types partners may have and be filtered by; all if empty.
    pub enabled_types: Vec<PartnerType>,
    /// Days without movement after which an open deal is an alert.
    pub stalled_deal_days: Option<u32>,
    /// Days before its end from which a certification is an alert.
    pub certification_expiry_days: Option<u32>,
    /// Change against the period before that is an alert.
    pub swing_percent: Option<u32>,
    /// Fall of a region's approval rate that is an alert.
    pub approval_drop_points: Option<u32>,
    /// Chances of winning by sales stage.
    pub stage_probabilities: Vec<StageProbability>,
}

impl FromWire<v1::ProgramSettings> for ProgramSettings {
    fn from_wire(wire: v1::ProgramSettings) -> Result<Self, Error> {
        Ok(Self {
            enabled_types: FromWire::from_wire(wire.enabled_types)?,
            stalled_deal_days: wire.stalled_deal_days,
            certification_expiry_days: wire.certification_expiry_days,
            swing_percent: wire.swing_percent,
            approval_drop_points: wire.approval_drop_points,
            stage_probabilities: wire
                .stage_probabilities
                .into_iter()
                .map(|chance| StageProbability {
                    stage: chance.stage,
                    probability_bp: chance.probability_bp,
                })
                .collect(),
        })
    }
}

impl From<ProgramSettings> for v1::ProgramSettings {
    fn from(settings: ProgramSettings) -> Self {
        Self {
            enabled_types: settings
                .enabled_types
                .iter()
                .map(|kind| kind.to_proto())
                .collect(),
            stalled_deal_days: settings.stalled_deal_days,
            certification_expiry_days: settings.certification_expiry_days,
            swing_percent: settings.swing_percent,
            approval_drop_points: settings.approval_drop_points,
            stage_probabilities: settings
                .stage_probabilities
                .into_iter()
                .map(|chance| v1::StageProbability {
                    stage: chance.stage,
                    probability_bp: chance.probability_bp,
                })
                .collect(),
        }
    }
}

impl Client {
    /// The settings.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn program_settings(&self) -> Result<ProgramSettings, Error> {
        let answer = ask!(
            self.program_api()
                .get_program_settings(v1::GetProgramSettingsRequest {})
        )
        .await?;
        ProgramSettings::from_wire(present(answer.settings, "the settings")?)
    }

    /// Changes the settings that `fields` names, all if it is empty.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn update_program_settings(
        &self,
        settings: ProgramSettings,
        fields: &[&str],
    ) -> Result<ProgramSettings, Error> {
        let answer = ask!(self.program_api().update_program_settings(
            v1::UpdateProgramSettingsRequest {
                settings: Some(settings.into()),
                update_mask: (!fields.is_empty()).then(|| prost_types::FieldMask {
                    paths: fields.iter().map(|field| (*field).to_owned()).collect(),
                }),
            }
        ))
        .await?;
        ProgramSettings::from_wire(present(answer.settings, "the settings")?)
    }
}
