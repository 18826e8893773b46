//! What the ledger takes as it grows: appending, folding, reporting, finding.
//!
//! The ledger is filled in batches, which end in segments as the runs that are folded do, and nothing of it is thrown away:
//! each size goes on from the one before. Times are of this machine; how much longer an append takes than with the fewest records is not.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use omk::catalog::money::{Rate, Usd};
use omk::catalog::{Price, Rates};
use omk::cost::file_sink::{Fold, JsonFileCostSink};
use omk::cost::record::{
    Charge, CostKind, Owner, PriceUsed, SessionStatus, SessionType, Usage, UsageSource, new_id,
};
use omk::cost::sink::CostSink;
use omk::cost::tracker::SessionCost;
use omk::cost::view::Period;
use omk::runtime::atomic::{Disk, FileSystem};
use omk::runtime::clock;

use crate::Options;
use crate::process::{self, Program};
use crate::report::Table;

/// What a person asks of a ledger, as it is typed.
const COMMANDS: [&str; 7] = [
    "cost report",
    "cost report --by model",
    "cost report --by tag",
    "cost report --since 2025-10-01",
    "cost list --status open",
    "cost check --max-usd 5/month",
    "cost export --format csv",
];

/// A disk that does not wait: for filling the ledger, of which nothing is measured.
struct Eager;

impl FileSystem for Eager {
    fn create_new(&self, path: &Path) -> std::io::Result<std::fs::File> {
        Disk.create_new(path)
    }

    fn write_all(&self, file: &mut std::fs::File, bytes: &[u8]) -> std::io::Result<()> {
        Disk.write_all(file, bytes)
    }

    fn sync(&self, _: &std::fs::File) -> std::io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        Disk.remove(path)
    }

    fn create_directory(&self, path: &Path) -> std::io::Result<()> {
        Disk.create_directory(path)
    }
}

/// A run as a CI system makes it, with a label of its own.
fn record(number: u64, owner: &Owner) -> SessionCost {
    // A million runs over some 700 days.
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number * 60);
    let rate = |text| Rate::parse(text).unwrap();
    let mut run = SessionCost::open(
        new_id(started, 4711, number),
        SessionType::Prompt,
        clock::format_rfc3339(started),
    );
    run.ended_at = Some(clock::format_rfc3339(started + Duration::from_secs(9)));
    run.status = SessionStatus::Settled;
    run.model.requested = Some("kimi-k3".to_string());
    run.model.reported =
        Some(["kimi-k3", "kimi-k2-thinking"][usize::from(number.is_multiple_of(3))].to_string());
    run.transport = Some(omk::transport::Transport::Wire);
    run.peer = "kimi-cli 1.51.0".to_string();
    run.session_id = Some(format!("4d8d6ac5-1634-4a2b-9f00-{number:012}"));
    run.usage = Some(Usage {
        input: Some(600 + number % 977),
        cache_read: Some(400),
        cache_write: Some(0),
        output: Some(30 + number % 311),
        reasoning: None,
        source: UsageSource::Provider,
        unreported: 0,
    });
    run.worst_case_usd = Usd::parse("0.25").ok();
    run.actual_usd = Usd::parse(&format!("0.0012{:05}", number % 99_991)).ok();
    run.kind = CostKind::Metered;
    run.charged = Charge::Yes;
    run.price = Some(PriceUsed {
        model: "kimi-k3".to_string(),
        price: Price::new(
            Rates {
                input: rate("0.6"),
                cached_input: Some(rate("0.15")),
                cache_write: None,
                cache_write_1h: None,
                output: rate("2.5"),
            },
            Vec::new(),
        ),
        as_of: "2026-11".to_string(),
        source: "the price list".to_string(),
        origin: "builtin".to_string(),
    });
    run.exit = Some(0);
    for (key, value) in [
        ("repository", "example/project".to_string()),
        ("workflow", "review".to_string()),
        ("run", number.to_string()),
    ] {
        run.tags.insert(key.to_string(), value);
    }
    run.owner = owner.clone();
    run
}

/// The median of some times.
fn median(times: usize, mut work: impl FnMut()) -> Duration {
    let mut taken: Vec<Duration> = (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    taken.sort();
    taken[times / 2]
}

/// Adds up by day and model, as a report does. How many runs, and what they cost.
fn report(sink: &JsonFileCostSink, period: Period) -> (u64, Usd) {
    let mut days: HashMap<i64, HashMap<String, (u64, Usd)>> = HashMap::new();
    sink.scan(period, &mut |view| {
        let models = days.entry(view.day()).or_default();
        let model = view.model.unwrap_or_default();
        let usd = view.actual_usd.unwrap_or_default();
        match models.get_mut(model) {
            Some(sum) => *sum = (sum.0 + 1, sum.1 + usd),
            None => drop(models.insert(model.to_string(), (1, usd))),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let sums = days.values().flat_map(HashMap::values);
    sums.fold((0, Usd::ZERO), |all, sum| (all.0 + sum.0, all.1 + sum.1))
}

pub(crate) fn run(options: &Options) {
    let root: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ledger_bench");
    let _ = std::fs::remove_dir_all(&root);
    let owner = Owner::current();
    let mut eager = JsonFileCostSink::on(Eager, &root);
    let mut sink = JsonFileCostSink::new(&root);
    let sizes = [10_u64, 1_000, 10_000, 100_000, 1_000_000];
    let sizes = sizes.into_iter().filter(|size| match options.quick {
        true => *size <= 10_000,
        false => *size != 10_000,
    });
    let mut table = Table::new(
        "The ledger as it grows",
        &[
            "records",
            "append ms",
            "× 10's",
            "append without sync µs",
            "× 10's",
            "fold check ms",
            "report s",
            "records a s",
            "last day's report ms",
            "find ms",
            "peak MiB",
            "MiB on disk",
        ],
    );
    let mut commands = Table::new(
        "Commands on it, from start to end",
        &["records", "command", "s", "× 10's", "peak MiB"],
    );
    let nothing = process::input_file("");
    let mut of_ten: HashMap<&str, Duration> = HashMap::new();
    let (mut count, mut least) = (0, None);
    let ratio = |time: Duration, least: Duration| {
        format!("{:.2}", time.as_secs_f64() / least.as_secs_f64())
    };
    for size in sizes {
        while count < size.min(1_000) {
            eager.append(&record(count, &owner)).unwrap();
            count += 1;
        }
        while count < size {
            let batch = count..size.min(count + 8192);
            let runs = batch.clone().map(|number| record(number, &owner));
            eager.save_all(runs.collect()).unwrap();
            count = batch.end;
        }
        eager.fold(Fold::IfDue).unwrap();
        let append = median(21, || {
            sink.append(&record(count, &owner)).unwrap();
            count += 1;
        });
        // A sync takes so long, and on some disks so exactly as long, that it would hide what grows beside it.
        let unsynced = median(201, || {
            eager.append(&record(count, &owner)).unwrap();
            count += 1;
        });
        let check = median(21, || {
            sink.fold(Fold::IfDue).unwrap();
        });
        let whole = median(3, || assert_eq!(report(&sink, Period::default()).0, count));
        let last_day = Period {
            from: Some(
                SystemTime::UNIX_EPOCH
                    + Duration::from_secs(1_700_000_000 + (count - 1) / 1440 * 86_400),
            ),
            until: None,
        };
        let day = median(3, || assert!(report(&sink, last_day).0 > 0));
        let id = record(size / 2, &owner).id;
        let find = median(3, || assert!(sink.contains(&id).unwrap()));
        let (least, least_unsynced) = *least.get_or_insert((append, unsynced));
        let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
        table.row(&[
            &count,
            &ms(append),
            &ratio(append, least),
            &format!("{:.0}", unsynced.as_secs_f64() * 1e6),
            &ratio(unsynced, least_unsynced),
            &ms(check),
            &format!("{:.3}", whole.as_secs_f64()),
            &format!("{:.0}", count as f64 / whole.as_secs_f64()),
            &ms(day),
            &ms(find),
            &process::mib(own_peak()),
            &process::mib(Some(kib_on_disk(&root))),
        ]);
        for words in COMMANDS {
            let program = Program::omk_cost(words, &root);
            let mut once = program.contender(&nothing);
            let mut taken: Vec<Duration> = (0..5).map(|_| once()).collect();
            taken.sort();
            let least = *of_ten.entry(words).or_insert(taken[2]);
            commands.row(&[
                &count,
                &format!("`omk {words}`"),
                &format!("{:.3}", taken[2].as_secs_f64()),
                &ratio(taken[2], least),
                &process::mib(program.peak(&nothing)),
            ]);
        }
    }
    table.print(
        "Medians. An append writes and syncs one file; a report by day and model reads the columns of every record, so it \
         grows as they do. The peak is that of the whole benchmark so far, filling included.",
    );
    commands.print(&format!(
        "Medians of five. Every run has a label of its own, so by label there are as many groups as the report holds at most. {}",
        process::how_peak_was_measured()
    ));
    let _ = std::fs::remove_dir_all(&root);
}

/// The peak of this process in KiB, where the system tells.
fn own_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

fn kib_on_disk(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            match metadata.is_dir() {
                true => kib_on_disk(&entry.path()),
                false => metadata.len().div_ceil(1024),
            }
        })
        .sum()
}
