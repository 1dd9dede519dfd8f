//! Measures the import of a CSV file of made-up customers into a fresh store.
//!
//! `cargo run --release -p overlap-server --example import-speed -- [ROWS] [email|full] [sorted|shuffled]`
//! prints the rate and, where the system tells, the CPU time.

use std::{env, fmt::Write as _, fs, io::Write as _, time::Instant};

use overlap_server::{
    clock::SystemClock,
    customers::{
        import::{ImportOptions, import_file},
        normalize::Region,
        rows,
    },
    storage::Store,
};

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let rows: u32 = arguments.next().map_or(Ok(1 << 20), |rows| rows.parse())?;
    let full = arguments.next().is_some_and(|kind| kind == "full");
    let shuffled = arguments.next().is_some_and(|order| order == "shuffled");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("customers.csv");
    write_file(&path, rows, full, shuffled)?;
    let store = Store::open(directory.path())?;
    let options = ImportOptions {
        default_region: Region::parse("US", "region")?,
        ..ImportOptions::default()
    };
    for run in ["fresh store", "same file again"] {
        let (start, cpu) = (Instant::now(), cpu_s());
        let summary = import_file(&store, &SystemClock, &path, None, &options, &mut |_| ())?;
        let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_s() - cpu);
        println!(
            "{run}: {rows} customers of {} bytes ({}, {}): {elapsed:.2} s, CPU {cpu:.2} s, {:.0} customers a second of CPU; {} inserted, {} unchanged, {} unusable",
            fs::metadata(&path)?.len() / u64::from(rows),
            if full {
                "all columns"
            } else {
                "one e-mail address each"
            },
            if shuffled { "shuffled" } else { "sorted" },
            f64::from(rows) / cpu,
            summary.inserted,
            summary.unchanged,
            summary.unusable_identifiers.values().sum::<u64>(),
        );
    }
    let (start, cpu) = (Instant::now(), cpu_s());
    let mut keys = 0;
    let disclosure = rows::Disclosure {
        stages: &["Prospect", "Customer"],
        key_types: &overlap_crypto::terms::KeyType::ALL,
        domain_from_email: false,
    };
    store.read_blocking(|connection| {
        rows::scan_disclosed(connection, &disclosure, &mut |row| {
            keys += row.keys.len();
            Ok(())
        })
    })?;
    println!(
        "scan of disclosed rows: {keys} keys in {:.2} s, CPU {:.2} s",
        start.elapsed().as_secs_f64(),
        cpu_s() - cpu
    );
    Ok(())
}

fn write_file(path: &std::path::Path, rows: u32, full: bool, shuffled: bool) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    writeln!(
        file,
        "id,stage,email{}",
        if full {
            ",phone,domain,name,owner,industry,region,plan"
        } else {
            ""
        }
    )?;
    let mut line = String::new();
    for number in 0..rows {
        // An odd factor permutes the numbers below a power of two.
        let number = if shuffled {
            number.wrapping_mul(0x9e37_79b1) % rows
        } else {
            number
        };
        let stage = ["Prospect", "Lead", "Deal", "Customer"][number as usize % 4];
        line.clear();
        write!(
            line,
            "cust-{number:08},{stage},person.{number}@company{}.example",
            number / 10
        )?;
        if full {
            write!(
                line,
                ",+1 ({}) {:03}-{:04},https://www.company{number}.co.uk/about,\"Company {number}, Inc.\",owner{}@us.example,Software,EMEA,gold",
                201 + number % 7,
                200 + number / 10_000 % 700,
                number % 10_000,
                number % 50,
            )?;
        }
        writeln!(file, "{line}")?;
    }
    Ok(file.flush()?)
}

/// CPU seconds of this process, user and system.
fn cpu_s() -> f64 {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else {
        return f64::NAN;
    };
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| {
        after_name
            .split_whitespace()
            .nth(field)
            .and_then(|field| field.parse().ok())
            .unwrap_or(f64::NAN)
    };
    (ticks(11) + ticks(12)) / 100.0
}
