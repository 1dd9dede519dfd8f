//! Two-way tables between the API's enumerations and the names people and files use.

/// Declares an enum of this crate from one list of variants, their names and the API's enum with the same variants.
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        $name:ident of $proto:ty { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// Unset, or something newer than this client.
            #[default]
            Unknown,
        }

        impl $name {
            /// Every variant that has a name in the API.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown => "UNKNOWN",
                }
            }

            /// The variant with this name, whatever its case.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name().eq_ignore_ascii_case(name))
            }

            #[allow(dead_code, reason = "not every enum travels both ways")]
            pub(crate) fn from_proto(number: i32) -> Self {
                match <$proto>::try_from(number) {
                    $(Ok(<$proto>::$variant) => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }

            #[allow(dead_code, reason = "not every enum travels both ways")]
            pub(crate) fn to_proto(self) -> i32 {
                match self {
                    $(Self::$variant => <$proto>::$variant.into(),)*
                    Self::Unknown => <$proto>::Unspecified.into(),
                }
            }
        }

        impl $crate::message::FromWire<i32> for $name {
            fn from_wire(number: i32) -> Result<Self, $crate::Error> {
                Ok(Self::from_proto(number))
            }
        }

        /// Not set is not a value.
        impl $crate::message::FromWire<i32> for Option<$name> {
            fn from_wire(number: i32) -> Result<Self, $crate::Error> {
                Ok((number != 0).then(|| $name::from_proto(number)))
            }
        }

        /// As a person types it: whatever the case, with dashes or underscores.
        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let typed = |name: &str| name.to_ascii_lowercase().replace('_', "-");
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| typed(value.name()) == typed(text))
                    .ok_or_else(|| {
                        let names: Vec<String> =
                            Self::ALL.iter().map(|value| typed(value.name())).collect();
                        format!("one of {}", names.join(", "))
                    })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Self::from_name(&name).unwrap_or_default())
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::*;

    macro_rules! round_trips {
        ($($name:ident),*) => {$(
            for &value in $name::ALL {
                assert_eq!($name::from_name(value.name()), Some(value));
                assert_eq!($name::from_proto(value.to_proto()), value);
                assert_eq!(value.name().replace('_', "-").parse(), Ok(value));
                assert_ne!(value, $name::Unknown);
                let json = serde_json::to_string(&value).unwrap();
                assert_eq!(serde_json::from_str::<$name>(&json).unwrap(), value);
            }
            assert_eq!($name::from_proto(0), $name::Unknown);
            assert_eq!($name::from_proto(9999), $name::Unknown);
        )*};
    }

    #[test]
    fn every_enum_survives_its_name_and_its_number() {
        round_trips!(
            Role,
            KeyType,
            StageCategory,
            CellState,
            EmptyReason,
            ActionSegment,
            AlertKind,
            AssetKind,
            AttributionDirection,
            AttributionState,
            CardTone,
            ChangeKind,
            CoverageDimension,
            DisclosureState,
            EcosystemEventType,
            EngagementBucketSize,
            EngagementComparison,
            EngagementExport,
            EngagementPeriod,
            EngagementRisk,
            ExportFormat,
            LeaderboardColumn,
            MetricDimension,
            MetricUnit,
            NoDataReason,
            PartnerScore,
            PartnerType,
            PartnershipState,
            QuickRange,
            RecordFileFormat,
            RecordKind,
            RetentionMeasure,
            ReturnBasis,
            SortDirection,
            TimelineEventType,
            TimelineSide,
            TrendDirection,
            Fault,
            RunState,
            SharingState,
            Tier
        );
    }
}
