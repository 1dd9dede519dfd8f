//! Metrics as files (K-28, K-31).

use overlap_proto::v1::{self, metric_quantity::Quantity};

use crate::records::{
    money::Money,
    table::{Cell, Table},
    times,
};

/// The columns of every file of metrics.
const COLUMNS: [&str; 14] = [
    "day",
    "dimension_value",
    "metric",
    "unit",
    "currency",
    "value",
    "numerator",
    "denominator",
    "definition_version",
    "period_start",
    "period_end",
    "as_of",
    "data_through",
    "notes",
];

/// An empty file of metrics.
#[must_use]
pub fn table() -> Table {
    Table::new(&COLUMNS)
}

/// Adds a metric's values, one row each; a metric without any has one row without a value.
pub fn push(table: &mut Table, day: &str, dimension_value: &str, metric: &v1::Metric) {
    let none = [v1::MetricValue::default()];
    let values = if metric.values.is_empty() {
        &none
    } else {
        metric.values.as_slice()
    };
    let notes: Vec<String> = metric
        .notes
        .iter()
        .map(|note| format!("{}={}", note.name, note.count))
        .collect();
    let period = metric.period.unwrap_or_default();
    for value in values {
        table.push(vec![
            text(day),
            text(dimension_value),
            text(&metric.id),
            text(
                metric
                    .unit()
                    .as_str_name()
                    .trim_start_matches("METRIC_UNIT_"),
            ),
            text(&value.currency_code),
            Cell::from(value.value),
            quantity(value.numerator.as_ref()),
            quantity(value.denominator.as_ref()),
            Cell::from(metric.definition_version),
            time(period.start.as_ref()),
            time(period.end.as_ref()),
            time(metric.as_of.as_ref()),
            time(metric.data_through.as_ref()),
            text(&notes.join(";")),
        ]);
    }
}

fn text(text: &str) -> Cell {
    Cell::from((!text.is_empty()).then(|| text.to_owned()))
}

fn time(time: Option<&prost_types::Timestamp>) -> Cell {
    Cell::from(
        time.and_then(times::to_nanos)
            .map(|nanos| crate::records::calendar::timestamp(nanos).to_string()),
    )
}

/// A quantity as an exact decimal: units of the currency, seconds, or things.
fn quantity(quantity: Option<&v1::MetricQuantity>) -> Cell {
    Cell::from(match quantity.and_then(|one| one.quantity.as_ref()) {
        None => None,
        Some(Quantity::Count(count)) => Some(count.to_string()),
        Some(Quantity::Money(money)) => Money::parse(money).ok().map(|money| decimal(money.amount)),
        Some(Quantity::Duration(duration)) => Some(decimal(
            i128::from(duration.seconds) * 1_000_000_000 + i128::from(duration.nanos),
        )),
    })
}

/// Billionths as a decimal without needless zeros.
fn decimal(billionths: i128) -> String {
    let sign = if billionths < 0 { "-" } else { "" };
    let size = billionths.unsigned_abs();
    let text = format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn k28_decimals_are_exact() {
        assert_eq!(decimal(1_250_000_000_000), "1250");
        assert_eq!(decimal(-10_000_000), "-0.01");
        assert_eq!(decimal(0), "0");
    }
}
