//! The kinds of records: one table from which every mapping comes.

use overlap_proto::v1::{self, record::Content};

macro_rules! kinds {
    ($($variant:ident $field:literal $message:literal;)*) => {
        /// A kind of record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $(#[doc = $field] $variant,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The field of `Record` that holds it, also its name for people.
            #[must_use]
            pub const fn field(self) -> &'static str {
                match self { $(Self::$variant => $field,)* }
            }

            /// Its message in overlap.v1.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }

            /// The kind of some content.
            #[must_use]
            pub const fn of(content: &Content) -> Self {
                match content { $(Content::$variant(_) => Self::$variant,)* }
            }

            /// The kind in the API's terms.
            #[must_use]
            pub const fn to_proto(self) -> v1::RecordKind {
                match self { $(Self::$variant => v1::RecordKind::$variant,)* }
            }

            /// The kind the API means, if it names one.
            #[must_use]
            pub const fn from_proto(kind: v1::RecordKind) -> Option<Self> {
                match kind {
                    v1::RecordKind::Unspecified => None,
                    $(v1::RecordKind::$variant => Some(Self::$variant),)*
                }
            }
        }
    };
}

kinds! {
    LifecycleEvent "lifecycle_event" "overlap.v1.LifecycleEventRecord";
    PartnerProfile "partner_profile" "overlap.v1.PartnerProfileRecord";
    PortalUser "portal_user" "overlap.v1.PortalUserRecord";
    Deal "deal" "overlap.v1.DealRecord";
    Referral "referral" "overlap.v1.ReferralRecord";
    ManagedAccount "managed_account" "overlap.v1.ManagedAccountRecord";
    PortalEvent "portal_event" "overlap.v1.PortalEventRecord";
    Resource "resource" "overlap.v1.ResourceRecord";
    Room "room" "overlap.v1.RoomRecord";
    Asset "asset" "overlap.v1.AssetRecord";
    Incentive "incentive" "overlap.v1.IncentiveRecord";
    Training "training" "overlap.v1.TrainingRecord";
    Certification "certification" "overlap.v1.CertificationRecord";
    ChannelCost "channel_cost" "overlap.v1.ChannelCostRecord";
    Target "target" "overlap.v1.TargetRecord";
    PartnerAnalysis "partner_analysis" "overlap.v1.PartnerAnalysisRecord";
    Campaign "campaign" "overlap.v1.CampaignRecord";
    EcosystemEvent "ecosystem_event" "overlap.v1.EcosystemEventRecord";
    ViewPreference "view_preference" "overlap.v1.ViewPreferenceRecord";
}

impl Kind {
    /// Whether records of this kind are events, which never change.
    #[must_use]
    pub const fn is_event(self) -> bool {
        matches!(
            self,
            Self::LifecycleEvent | Self::PortalEvent | Self::EcosystemEvent
        )
    }

    /// The number it is stored under.
    #[must_use]
    pub const fn code(self) -> i32 {
        self.to_proto() as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_api_has_its_own_kind() {
        for code in 1..=19 {
            let proto = v1::RecordKind::try_from(code).expect("dense");
            let kind = Kind::from_proto(proto).expect("named");
            assert_eq!(kind.to_proto(), proto);
            assert_eq!(
                format!("RECORD_KIND_{}", kind.field().to_uppercase()),
                proto.as_str_name()
            );
        }
        assert!(v1::RecordKind::try_from(20).is_err());
        assert_eq!(Kind::ALL.len(), 19);
    }
}
