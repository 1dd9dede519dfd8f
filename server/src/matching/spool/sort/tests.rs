#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::error::Reason;

/// The least budget, with which a sorter holds 56 KiB and makes 16 parts.
const LEAST: usize = 0;

fn sort(directory: &Path, budget_bytes: usize, records: &[Vec<u8>]) -> Sorted {
    let mut sorter = Sorter::new(directory, "s", budget_bytes);
    for record in records {
        let (one, other) = record.split_at(record.len() / 2);
        sorter.push(&[one, other]).unwrap();
    }
    let sorted = sorter.finish().unwrap();
    assert_eq!(sorted.len(), records.len() as u64);
    sorted
}

fn collect(sorted: &Sorted) -> Result<Vec<Vec<u8>>, Error> {
    let mut stream = sorted.stream()?;
    let mut records = Vec::new();
    while let Some(record) = stream.next_record()? {
        records.push(record.to_vec());
    }
    assert_eq!(stream.next_record()?, None, "the end is the end");
    Ok(records)
}

/// Streams twice, and looks whether all files go.
fn assert_sorted(directory: &Path, sorted: Sorted, mut records: Vec<Vec<u8>>) {
    records.sort();
    for pass in 0..2 {
        assert!(collect(&sorted).unwrap() == records, "pass {pass}");
    }
    drop(sorted);
    assert_eq!(files(directory), 0, "files go with the last handle");
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Records of up to 49 bytes; `prefix` stands before all of them.
fn sample(count: u32, prefix: &[u8]) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            let mut record = prefix.to_vec();
            record.extend(i.wrapping_mul(2_654_435_761).to_be_bytes());
            record.extend(std::iter::repeat_n(b'x', (i % 40) as usize));
            record.truncate(prefix.len() + (i % 50) as usize);
            record
        })
        .collect()
}

#[test]
fn sorts_alike_in_memory_in_parts_and_in_runs() {
    let directory = tempfile::tempdir().unwrap();
    // Uniform from the first bit, from a bit within the first eight bytes, and only behind them.
    for prefix in [&b""[..], b"abc", b"abcdefgh"] {
        for budget_bytes in [LEAST, 1 << 18, 1 << 24] {
            let records = sample(20_000, prefix);
            let sorted = sort(directory.path(), budget_bytes, &records);
            match &sorted.source {
                Source::Held(_) => assert_eq!(budget_bytes, 1 << 24),
                Source::Parts(_) => assert!(prefix.is_empty()),
                Source::Runs(runs) => assert!(!prefix.is_empty() && runs.len() > 4),
            }
            assert_sorted(directory.path(), sorted, records);
        }
    }
}

#[test]
fn numbered_records_are_dealt_into_parts() {
    let directory = tempfile::tempdir().unwrap();
    // Five eighths of the numbers of 23 bits.
    let bound = 5 << 20;
    for beyond in [0, 1, 5_000] {
        let number = |i: u32| i.wrapping_mul(2_654_435_761) % bound;
        let mut numbers: Vec<u32> = (0..20_000).map(number).collect();
        numbers.extend((0..beyond).map(|i| u32::MAX - i));
        let records: Vec<Vec<u8>> = numbers
            .iter()
            .map(|number| [&number.to_be_bytes()[..], b"behind the number"].concat())
            .collect();
        let mut sorter = Sorter::numbered(directory.path(), "s", 1 << 18, bound);
        for record in &records {
            sorter.push(&[record]).unwrap();
        }
        let sorted = sorter.finish().unwrap();
        assert!(matches!(sorted.source, Source::Parts(_)));
        assert_sorted(directory.path(), sorted, records);
    }
}

#[test]
fn sorts_records_longer_than_its_buffers() {
    let directory = tempfile::tempdir().unwrap();
    let mut records = sample(2_000, b"");
    for (fill, length) in [65_534, 65_533, 9_000, 0, 65_534, 1]
        .into_iter()
        .enumerate()
    {
        records.push(vec![fill as u8 * 40; length]);
    }
    let sorted = sort(directory.path(), LEAST, &records);
    assert!(matches!(sorted.source, Source::Parts(_)));
    assert_sorted(directory.path(), sorted, records);
    // Before it is known how they are spread, one alone is more than the budget.
    let records: Vec<_> = (0..10).map(|fill| vec![9 - fill; 65_534]).collect();
    assert_sorted(
        directory.path(),
        sort(directory.path(), LEAST, &records),
        records,
    );
    let mut sorter = Sorter::new(directory.path(), "s", LEAST);
    let error = sorter.push(&[&[0; 65_000], &[0; 535]]).unwrap_err();
    assert_eq!((error.reason(), sorter.len()), (Reason::Internal, 0));
}

#[test]
fn parts_larger_than_the_budget_are_sorted_within_it() {
    let directory = tempfile::tempdir().unwrap();
    let uniform = || sample(4_000, b"");
    // All of the same leading bits as the first part, the last, and one between.
    let same: Vec<_> = [0x00, 0xff, 0x5a]
        .iter()
        .flat_map(|&byte| sample(4_000, &[byte; 12]))
        .collect();
    let equal = vec![vec![7; 40]; 8_000];
    let empty = vec![Vec::new(); 8_000];
    // Uniform once more behind four bits, which is a part of parts.
    let deeper: Vec<_> = sample(16_000, b"")
        .into_iter()
        .filter(|record| record.len() >= 4)
        .map(|mut record| {
            record[0] &= 0x0f;
            record
        })
        .collect();
    for (large, more, dealt_again) in [
        (3, same, false),
        (1, equal, false),
        (1, empty, false),
        (1, deeper, true),
    ] {
        let records = [uniform(), more].concat();
        let sorted = sort(directory.path(), LEAST, &records);
        let Source::Parts(parts) = &sorted.source else {
            panic!("the first records are spread evenly");
        };
        assert_eq!(parts.large().count(), large);
        let held_bytes = parts.largest_held_bytes();
        assert!((1..=MIN_BUDGET_BYTES).contains(&held_bytes));
        for sorted in parts.large() {
            match sorted.source {
                Source::Held(_) => panic!("more than the budget is held"),
                Source::Parts(_) => assert!(dealt_again),
                Source::Runs(_) => assert!(!dealt_again),
            }
        }
        assert_sorted(directory.path(), sorted, records);
    }
}

#[test]
fn a_changed_or_cut_file_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for (prefix, file) in [(&b""[..], "s.parts"), (b"abcdefgh", "s.2")] {
        let sorted = sort(directory.path(), 1 << 18, &sample(20_000, prefix));
        let path = directory.path().join(file);
        let good = std::fs::read(&path).unwrap();
        collect(&sorted).unwrap();
        let damage = |bad: &[u8]| {
            std::fs::write(&path, bad).unwrap();
            let mut stream = sorted.stream();
            loop {
                match stream.as_mut().map(SortedStream::next_record) {
                    Ok(Ok(Some(_))) => {}
                    Ok(Ok(None)) => panic!("a damaged file was streamed to its end"),
                    Ok(Err(error)) => {
                        let again = stream.unwrap().next_record().unwrap_err();
                        assert_eq!(error.to_string(), again.to_string());
                        return error;
                    }
                    Err(_) => return stream.err().unwrap(),
                }
            }
        };
        let errors = [10, good.len() / 2, good.len() - 1]
            .map(|at| {
                let mut flipped = good.clone();
                flipped[at] ^= 1;
                damage(&flipped)
            })
            .into_iter()
            .chain([good.len() - 1, good.len() / 2, 0].map(|length| damage(&good[..length])));
        for error in errors {
            assert_eq!(error.reason(), Reason::StorageFailed);
            assert!(error.to_string().contains("the file is damaged"));
        }
        std::fs::write(&path, good).unwrap();
        collect(&sorted).unwrap();
    }
}
