use proptest::prelude::*;

use super::*;

fn split(text: &str) -> Vec<Vec<String>> {
    let mut records = Records::new(text.as_bytes(), 1);
    let mut values = Vec::new();
    let mut all = Vec::new();
    while records.next(&mut values).unwrap().is_some() {
        all.push(
            values
                .iter()
                .map(|value| String::from_utf8(value.to_vec()).unwrap())
                .collect(),
        );
    }
    all
}

#[test]
fn records_of_rfc_4180() {
    // RFC 4180 section 2: rules 1 to 7.
    assert_eq!(
        split("aaa,bbb,ccc\r\nzzz,yyy,xxx\r\n"),
        [["aaa", "bbb", "ccc"], ["zzz", "yyy", "xxx"]]
    );
    assert_eq!(
        split("aaa,bbb,ccc\r\nzzz,yyy,xxx"),
        [["aaa", "bbb", "ccc"], ["zzz", "yyy", "xxx"]]
    );
    assert_eq!(
        split("\"aaa\",\"b\r\nbb\",\"ccc\"\r\nzzz,yyy,xxx"),
        [["aaa", "b\r\nbb", "ccc"], ["zzz", "yyy", "xxx"]]
    );
    assert_eq!(
        split("\"aaa\",\"b\"\"bb\",\"ccc\""),
        [["aaa", "b\"bb", "ccc"]]
    );
    assert_eq!(split("a,,\n\n,\n"), [vec!["a", "", ""], vec!["", ""]]);
    assert_eq!(split("5\" pipe,\"\"\n"), [["5\" pipe", ""]]);
}

#[test]
fn lines_are_counted_through_quoted_values() {
    let mut records = Records::new(b"a\n\n\"b\nb\",c\nd", 1);
    let mut values = Vec::new();
    let mut lines = Vec::new();
    while let Some(line) = records.next(&mut values).unwrap() {
        lines.push(line);
    }
    assert_eq!(lines, [1, 3, 5]);
}

proptest! {
    #[test]
    fn splits_as_an_independent_reader_does(rows in prop::collection::vec(prop::collection::vec("[a\",\n é]{0,6}", 3), 1..6)) {
        let mut writer = ::csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        let independent: Vec<Vec<String>> = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(text.as_bytes())
            .records()
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .collect();
        prop_assert_eq!(&independent, &rows);
        prop_assert_eq!(split(&text), rows);
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(prop::sample::select(b"a,\"\r\n\xff".to_vec()), 0..40)) {
        let mut records = Records::new(&bytes, 1);
        let mut values = Vec::new();
        while let Ok(Some(_)) = records.next(&mut values) {}
    }
}
