//! Measures the external sorter with records of 92 bytes, as a run's entries are.
//!
//! `cargo run --release -p overlap-server --example spool-speed -- [RECORDS] [uniform|numbered] [ROUNDS]`
//! prints CPU time: of sorting, of sorting and streaming once, and twice. The system counts it in steps of some milliseconds.

use std::{env, fs, hint::black_box, path::Path};

use overlap_server::matching::spool::{Sorted, Sorter};

const RECORD_BYTES: usize = 92;
const BUDGET_BYTES: usize = 16 << 20;

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let records: u64 = arguments.next().map_or(Ok(1 << 20), |n| n.parse())?;
    let numbered = arguments.next().is_some_and(|kind| kind == "numbered");
    let rounds: usize = arguments.next().map_or(Ok(15), |n| n.parse())?;
    let directory = tempfile::tempdir()?;
    let mut figures = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let start = cpu_s();
        let sorted = sort(directory.path(), records, numbered)?;
        figures[0].push(cpu_s() - start);
        for figure in &mut figures[1..] {
            stream(&sorted)?;
            figure.push(cpu_s() - start);
        }
    }
    for (name, mut figure) in ["sorted", "streamed once", "streamed twice"]
        .into_iter()
        .zip(figures)
    {
        figure.sort_by(f64::total_cmp);
        let mean = figure.iter().sum::<f64>() / rounds as f64;
        println!(
            "{name:>14}: CPU {:.3} s (median of {rounds}; mean {mean:.3} s, {:.0} ns a record)",
            figure[rounds / 2],
            mean / records as f64 * 1e9
        );
    }
    Ok(())
}

fn sort(directory: &Path, records: u64, numbered: bool) -> anyhow::Result<Sorted> {
    let mut sorter = Sorter::new(directory, "records", BUDGET_BYTES);
    let mut record = [0; RECORD_BYTES];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..records {
        for word in record[..16].chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_be_bytes());
        }
        if numbered {
            record[..8].copy_from_slice(&number.to_be_bytes());
        }
        sorter.push(&[&record])?;
    }
    Ok(sorter.finish()?)
}

fn stream(sorted: &Sorted) -> anyhow::Result<()> {
    let mut stream = sorted.stream()?;
    let (mut before, mut records, mut sum) = (0, 0, 0);
    while let Some(record) = stream.next_record()? {
        let (head, rest) = record.split_first_chunk().unwrap_or((&[0; 8], record));
        let head = u64::from_be_bytes(*head);
        anyhow::ensure!(before <= head, "records are out of order");
        before = head;
        sum ^= rest.last().copied().unwrap_or_default();
        records += 1;
    }
    black_box(sum);
    anyhow::ensure!(records == sorted.len(), "records are missing");
    Ok(())
}

/// CPU time of this thread; NaN where the system does not tell.
fn cpu_s() -> f64 {
    fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|times| times.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(f64::NAN, |nanoseconds| nanoseconds / 1e9)
}
