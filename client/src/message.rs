//! Between the API's messages and this crate's structs of the same names and fields.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

use crate::{Error, v1};

/// Something that a part `W` of an answer says.
pub(crate) trait FromWire<W>: Sized {
    /// # Errors
    /// If the answer lacks what the API promises.
    fn from_wire(wire: W) -> Result<Self, Error>;
}

macro_rules! as_it_is {
    ($($type:ty),*) => {$(
        impl FromWire<$type> for $type {
            fn from_wire(wire: $type) -> Result<Self, Error> {
                Ok(wire)
            }
        }
    )*};
}

as_it_is!(String, u64, u32, i64, i32, f64, bool);

impl<W, T: FromWire<W>> FromWire<Vec<W>> for Vec<T> {
    fn from_wire(wire: Vec<W>) -> Result<Self, Error> {
        wire.into_iter().map(T::from_wire).collect()
    }
}

impl<W, T: FromWire<W>> FromWire<Option<W>> for Option<T> {
    fn from_wire(wire: Option<W>) -> Result<Self, Error> {
        wire.map(T::from_wire).transpose()
    }
}

impl FromWire<HashMap<String, String>> for BTreeMap<String, String> {
    fn from_wire(wire: HashMap<String, String>) -> Result<Self, Error> {
        Ok(wire.into_iter().collect())
    }
}

impl FromWire<prost_types::Timestamp> for Timestamp {
    fn from_wire(wire: prost_types::Timestamp) -> Result<Self, Error> {
        Self::new(wire.seconds, wire.nanos).map_err(|_| Error::Response {
            missing: "a time that the calendar has",
        })
    }
}

/// Declares structs with the fields of the API's messages, from which they are made. A field with `= "what"` is one that
/// the API promises.
macro_rules! messages {
    ($(
        $(#[$meta:meta])*
        $name:ident of $wire:ty {
            $($(#[$doc:meta])* $field:ident: $type:ty $(= $promised:literal)?,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "a field without a word is what its name says")]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl $crate::message::FromWire<$wire> for $name {
            fn from_wire(wire: $wire) -> Result<Self, $crate::Error> {
                Ok(Self {
                    $($field: messages!(@read wire.$field $(, $promised)?),)*
                })
            }
        }
    )*};
    (@read $value:expr) => {
        $crate::message::FromWire::from_wire($value)?
    };
    (@read $value:expr, $promised:literal) => {
        $crate::message::FromWire::from_wire($crate::convert::present($value, $promised)?)?
    };
}

/// An amount of one currency; amounts of different currencies are never added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Money {
    /// ISO 4217.
    pub currency_code: String,
    /// Whole units.
    pub units: i64,
    /// Billionths of a unit, with the sign of units.
    pub nanos: i32,
}

impl FromWire<v1::Money> for Money {
    fn from_wire(wire: v1::Money) -> Result<Self, Error> {
        Ok(Self {
            currency_code: wire.currency_code,
            units: wire.units,
            nanos: wire.nanos,
        })
    }
}

/// How long something took; in JSON as in the protobuf mapping, e.g. "90s" or "1.500s".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub SignedDuration);

impl FromWire<prost_types::Duration> for TimeSpan {
    fn from_wire(wire: prost_types::Duration) -> Result<Self, Error> {
        // Seconds and nanoseconds of an answer may differ in sign; the sum counts.
        SignedDuration::from_secs(wire.seconds)
            .checked_add(SignedDuration::from_nanos(wire.nanos.into()))
            .map(Self)
            .ok_or(Error::Response {
                missing: "a duration within bounds",
            })
    }
}

impl std::fmt::Display for TimeSpan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nanos = self.0.subsec_nanos().unsigned_abs();
        let sign = if self.0.is_negative() { "-" } else { "" };
        let seconds = self.0.as_secs().unsigned_abs();
        match nanos {
            0 => write!(formatter, "{sign}{seconds}s"),
            _ if nanos.is_multiple_of(1_000_000) => {
                write!(formatter, "{sign}{seconds}.{:03}s", nanos / 1_000_000)
            }
            _ => write!(formatter, "{sign}{seconds}.{nanos:09}s"),
        }
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time for a request.
pub(crate) fn wire_time(time: Timestamp) -> prost_types::Timestamp {
    // The message has no negative nanoseconds.
    let nanos = i128::from(time.subsec_nanosecond());
    let total = i128::from(time.as_second()) * 1_000_000_000 + nanos;
    prost_types::Timestamp {
        seconds: total.div_euclid(1_000_000_000) as i64,
        nanos: total.rem_euclid(1_000_000_000) as i32,
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{FromWire as _, TimeSpan, wire_time};

    #[test]
    fn durations_are_written_as_protobuf_does() {
        let span = |milliseconds| TimeSpan(SignedDuration::from_millis(milliseconds)).to_string();
        assert_eq!(span(90_000), "90s");
        assert_eq!(span(1_500), "1.500s");
        assert_eq!(span(-500), "-0.500s");
        let third = TimeSpan::from_wire(prost_types::Duration {
            seconds: 0,
            nanos: 333_333_333,
        });
        assert_eq!(third.unwrap().to_string(), "0.333333333s");
    }

    #[test]
    fn times_before_the_epoch_have_positive_nanoseconds() {
        let wire = wire_time("1969-12-31T23:59:59.25Z".parse::<Timestamp>().unwrap());
        assert_eq!((wire.seconds, wire.nanos), (-1, 250_000_000));
        assert_eq!(
            Timestamp::from_wire(wire).unwrap().to_string(),
            "1969-12-31T23:59:59.25Z"
        );
    }
}
