//! Numbers as people read them: with their units, and as bars where looking is quicker than reading.

use jiff::{Timestamp, tz::TimeZone};

use crate::{Metric, MetricQuantity, MetricUnit, MetricValue, Money, TimeSpan};

use super::table::grouped;

/// What stands where nothing is known, which is not 0.
pub const UNSET: &str = "-";

/// A whole number with its thousands apart.
#[must_use]
pub fn integer(number: i64) -> String {
    let digits = grouped(number.unsigned_abs());
    if number < 0 {
        format!("-{digits}")
    } else {
        digits
    }
}

/// A number with a fixed count of decimals and its thousands apart.
#[must_use]
pub fn decimal(number: f64, decimals: usize) -> String {
    if !number.is_finite() {
        return UNSET.to_owned();
    }
    let text = format!("{:.decimals$}", number.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut shown = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    if !fraction.is_empty() {
        shown.push('.');
        shown.push_str(fraction);
    }
    // What rounds to nothing has no sign.
    let nothing = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if number < 0.0 && !nothing {
        shown.insert(0, '-');
    }
    shown
}

/// A ratio as a percentage.
#[must_use]
pub fn percent(ratio: f64) -> String {
    format!("{}%", decimal(ratio * 100.0, 1))
}

/// An amount with its currency, in whole cents; more decimals only where there are any.
#[must_use]
pub fn money(money: &Money) -> String {
    let exact = money_exact(&money.currency_code, money.units, money.nanos);
    let (amount, currency) = exact.split_once(' ').unwrap_or((&exact, ""));
    let (sign, amount) = match amount.strip_prefix('-') {
        Some(amount) => ("-", amount),
        None => ("", amount),
    };
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    format!("{sign}{whole}.{fraction:0<2} {currency}")
        .trim_end()
        .to_owned()
}

/// An amount with its currency, for files: "1234.50 EUR", as records are imported.
#[must_use]
pub fn money_exact(currency: &str, units: i64, nanos: i32) -> String {
    let total = i128::from(units) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let (whole, nanos) = (
        total.unsigned_abs() / 1_000_000_000,
        total.unsigned_abs() % 1_000_000_000,
    );
    let nanos = format!("{nanos:09}");
    let fraction = nanos.trim_end_matches('0');
    match fraction.len() {
        0 => format!("{sign}{whole} {currency}"),
        _ => format!("{sign}{whole}.{fraction:0<2} {currency}"),
    }
}

/// A duration: "45 s", "12:34", "1:02:03", or in days where there are any.
#[must_use]
pub fn time_span(span: TimeSpan) -> String {
    let sign = if span.0.is_negative() { "-" } else { "" };
    let seconds = span.0.as_secs().unsigned_abs();
    let (days, hours, minutes, rest) = (
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{rest} s"),
        (0, 0, _) => format!("{sign}{minutes}:{rest:02}"),
        (0, ..) => format!("{sign}{hours}:{minutes:02}:{rest:02}"),
        _ => format!("{sign}{} d {hours} h", grouped(days)),
    }
}

/// A time to the minute.
#[must_use]
pub fn minute(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%d %H:%M UTC")
        .to_string()
}

/// A metric's value in its unit.
#[must_use]
pub fn metric_value(unit: MetricUnit, value: &MetricValue) -> String {
    let Some(number) = value.value else {
        return UNSET.to_owned();
    };
    match unit {
        MetricUnit::Count if number.fract() == 0.0 => decimal(number, 0),
        MetricUnit::Ratio => percent(number),
        MetricUnit::Money => match (&value.numerator, &value.denominator) {
            // The exact amount, where the value is one.
            (Some(MetricQuantity::Money(amount)), None) => money(amount),
            _ => format!("{} {}", decimal(number, 2), value.currency_code),
        },
        MetricUnit::Days => format!("{} d", decimal(number, 1)),
        MetricUnit::Seconds => format!("{} s", decimal(number, 1)),
        _ => decimal(number, 1),
    }
}

/// A numerator or a denominator.
#[must_use]
pub fn quantity(quantity: &MetricQuantity) -> String {
    match quantity {
        MetricQuantity::Count(count) => integer(*count),
        MetricQuantity::Money(amount) => money(amount),
        MetricQuantity::Duration(span) => time_span(*span),
    }
}

/// What a value is made of: "3 / 8"; nothing for counts and sums.
#[must_use]
pub fn made_of(value: &MetricValue) -> String {
    match (&value.numerator, &value.denominator) {
        (Some(numerator), Some(denominator)) => {
            format!("{} / {}", quantity(numerator), quantity(denominator))
        }
        _ => String::new(),
    }
}

/// Every value of a metric: one for each currency.
#[must_use]
pub fn metric(metric: &Metric) -> String {
    if metric.values.is_empty() {
        return UNSET.to_owned();
    }
    let values: Vec<String> = metric
        .values
        .iter()
        .map(|value| metric_value(metric.unit, value))
        .collect();
    values.join(", ")
}

/// A bar whose length is `value` as a part of `largest`, in eighths of a column.
#[must_use]
pub fn bar(value: f64, largest: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if !(value > 0.0 && largest > 0.0 && value.is_finite() && largest.is_finite()) {
        return String::new();
    }
    let eighths = ((value / largest).min(1.0) * (width * 8) as f64).round() as usize;
    // What is there can be seen.
    let eighths = eighths.max(1);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// Values beside each other as small columns; the largest is a full one, 0 the lowest line, an unset one a space.
#[must_use]
pub fn sparkline(values: &[Option<f64>]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = values.iter().flatten().copied().fold(0.0, f64::max);
    values
        .iter()
        .map(|value| match value {
            None => ' ',
            Some(value) if largest > 0.0 && *value > 0.0 => {
                let level = (value / largest * (LEVELS.len() - 1) as f64).round() as usize;
                LEVELS[level.min(LEVELS.len() - 1)]
            }
            Some(_) => LEVELS[0],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::{
        bar, decimal, integer, made_of, metric_value, money, money_exact, percent, sparkline,
        time_span,
    };
    use crate::{MetricQuantity, MetricUnit, MetricValue, Money, TimeSpan};

    #[test]
    fn amounts_keep_every_digit() {
        let amount = |units, nanos| Money {
            currency_code: "EUR".to_owned(),
            units,
            nanos,
        };
        assert_eq!(money(&amount(1_234_567, 0)), "1,234,567.00 EUR");
        assert_eq!(money(&amount(1_250, 500_000_000)), "1,250.50 EUR");
        assert_eq!(money(&amount(0, -10_000_000)), "-0.01 EUR");
        assert_eq!(money(&amount(-7, -5_000_000)), "-7.005 EUR");
        assert_eq!(money_exact("EUR", 1_234, 500_000_000), "1234.50 EUR");
        assert_eq!(money_exact("USD", 0, -10_000_000), "-0.01 USD");
        assert_eq!(money_exact("JPY", 5_000, 0), "5000 JPY");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(integer(-12_345), "-12,345");
        assert_eq!(decimal(1_234.56, 1), "1,234.6");
        assert_eq!(decimal(-0.04, 1), "0.0");
        assert_eq!(decimal(-1.5, 1), "-1.5");
        assert_eq!(decimal(f64::NAN, 1), "-");
        assert_eq!(percent(0.375), "37.5%");
        assert_eq!(percent(1.25), "125.0%");
        let span = |seconds| time_span(TimeSpan(SignedDuration::from_secs(seconds)));
        assert_eq!(span(0), "0 s");
        assert_eq!(span(754), "12:34");
        assert_eq!(span(3_723), "1:02:03");
        assert_eq!(span(86_400 * 45 + 3_600), "45 d 1 h");
    }

    #[test]
    fn an_unset_value_is_not_nought() {
        let ratio = |value, numerator, denominator| MetricValue {
            currency_code: String::new(),
            value,
            numerator: Some(MetricQuantity::Count(numerator)),
            denominator: Some(MetricQuantity::Count(denominator)),
        };
        assert_eq!(metric_value(MetricUnit::Ratio, &ratio(None, 0, 0)), "-");
        assert_eq!(made_of(&ratio(None, 0, 0)), "0 / 0");
        let some = ratio(Some(0.375), 3, 8);
        assert_eq!(metric_value(MetricUnit::Ratio, &some), "37.5%");
        assert_eq!(made_of(&some), "3 / 8");
        assert_eq!(
            metric_value(MetricUnit::Days, &ratio(Some(45.3), 453, 10)),
            "45.3 d"
        );
        assert_eq!(
            metric_value(MetricUnit::Count, &ratio(Some(1_200.0), 1_200, 1)),
            "1,200"
        );
    }

    #[test]
    fn bars_and_columns_are_in_proportion() {
        assert_eq!(bar(8.0, 8.0, 4), "████");
        assert_eq!(bar(4.0, 8.0, 4), "██");
        assert_eq!(bar(1.0, 32.0, 4), "▏");
        assert_eq!(bar(0.001, 8.0, 4), "▏", "what is there can be seen");
        assert_eq!(bar(0.0, 8.0, 4), "");
        assert_eq!(bar(5.0, 0.0, 4), "");
        assert_eq!(
            sparkline(&[Some(0.0), Some(7.0), None, Some(3.0), Some(1.0)]),
            "▁█ ▄▂"
        );
        assert_eq!(sparkline(&[Some(0.0), Some(0.0)]), "▁▁");
    }
}
