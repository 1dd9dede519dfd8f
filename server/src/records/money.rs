//! Amounts of one currency, exact to a billionth.

use std::collections::BTreeMap;

use overlap_proto::v1;

/// A currency's ISO 4217 code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The currency with this code of three capital letters.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(bytes))
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("capital letters")
    }
}

/// Billionths of a unit.
pub type Billionths = i128;

/// An amount of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    /// Of which currency.
    pub currency: Currency,
    /// How much.
    pub amount: Billionths,
}

impl Money {
    /// The amount a message means.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn parse(money: &v1::Money) -> Result<Self, (&'static str, &'static str)> {
        let currency = Currency::parse(&money.currency_code).ok_or((
            "currency_code",
            "must be an ISO 4217 code of three capital letters",
        ))?;
        if money.nanos.unsigned_abs() > 999_999_999 {
            return Err(("nanos", "must be between -999999999 and 999999999"));
        }
        if (money.units > 0 && money.nanos < 0) || (money.units < 0 && money.nanos > 0) {
            return Err(("nanos", "must have the sign of units"));
        }
        Ok(Self {
            currency,
            amount: i128::from(money.units) * 1_000_000_000 + i128::from(money.nanos),
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(self) -> v1::Money {
        v1::Money {
            currency_code: self.currency.code().to_owned(),
            units: i64::try_from(self.amount / 1_000_000_000).unwrap_or(if self.amount < 0 {
                i64::MIN
            } else {
                i64::MAX
            }),
            nanos: i32::try_from(self.amount % 1_000_000_000).expect("less than a unit"),
        }
    }
}

/// Amounts by currency, never added across currencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purse(pub BTreeMap<Currency, Billionths>);

impl Purse {
    /// Adds an amount to its currency's.
    pub fn add(&mut self, money: Money) {
        *self.0.entry(money.currency).or_default() += money.amount;
    }

    /// What there is of a currency.
    #[must_use]
    pub fn of(&self, currency: Currency) -> Billionths {
        self.0.get(&currency).copied().unwrap_or(0)
    }
}

impl Extend<Money> for Purse {
    fn extend<I: IntoIterator<Item = Money>>(&mut self, amounts: I) {
        for money in amounts {
            self.add(money);
        }
    }
}

impl FromIterator<Money> for Purse {
    fn from_iter<I: IntoIterator<Item = Money>>(amounts: I) -> Self {
        let mut purse = Self::default();
        purse.extend(amounts);
        purse
    }
}
