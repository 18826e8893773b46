//! The ledger against a plain list.

use std::cell::Cell;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering as Memory;
use std::time::Duration;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::catalog::money::Usd;
use crate::cost::budget;
use crate::cost::record::Charge;
use crate::cost::record::SessionType;
use crate::cost::sums::Sums;
use crate::cost::tracker::CostTracker;

/// A directory that is gone with the value.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Memory::Relaxed);
        let path = std::env::temp_dir().join(format!("omk-ledger-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Dir(path)
    }

    fn sink(&self) -> JsonFileCostSink {
        JsonFileCostSink::new(&self.0)
    }

    fn segments(&self) -> usize {
        let names = fs::read_dir(self.0.join("segments")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".jsonl")).count()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(number: u32) -> SessionCost {
    SessionCost::open(
        format!("20261120T1047{number:06}Z"),
        SessionType::Prompt,
        "2026-11-20T10:47:59Z",
    )
}

fn over(number: u32) -> SessionCost {
    let mut run = run(number);
    run.status = SessionStatus::Settled;
    run.tags.insert("run".to_string(), number.to_string());
    run
}

fn all(sink: &impl CostSink) -> (Vec<SessionCost>, Vec<String>) {
    let mut records = Vec::new();
    let warnings = sink.load(&mut |record| {
        records.push(record.clone());
        ControlFlow::Continue(())
    });
    records.sort_by(|a, b| a.id.cmp(&b.id));
    (records, warnings.unwrap().lines())
}

#[test]
fn a_record_survives_being_folded() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    assert_eq!(all(&sink), (vec![], vec![]));
    assert_eq!(sink.fold(Fold::IfDue), Ok(Folded::NotDue));
    let mut expected = Vec::new();
    for number in 0..10 {
        let record = if number == 3 {
            run(number)
        } else {
            over(number)
        };
        sink.append(&record).unwrap();
        assert!(sink.append(&record).is_err());
        expected.push(record);
    }
    assert_eq!(all(&sink), (expected.clone(), vec![]));
    let folded = |records| {
        Ok(Folded::Done {
            records,
            warnings: vec![],
        })
    };
    assert_eq!(sink.fold(Fold::Now), folded(9));
    assert_eq!(all(&sink), (expected.clone(), vec![]));
    // An open record becomes one that is over, and a packed one changes.
    for number in [3, 5] {
        expected[number].status = SessionStatus::Failed;
        sink.save(&expected[number]).unwrap();
    }
    assert_eq!(all(&sink), (expected.clone(), vec![]));
    assert_eq!(sink.fold(Fold::Now), folded(2));
    assert_eq!(all(&sink), (expected.clone(), vec![]));
    assert_eq!(dir.segments(), 1);
    assert_eq!(
        sink.find(&expected[5].id),
        Ok(Found::One(Box::new(expected[5].clone())))
    );
    assert_eq!(sink.find("2027"), Ok(Found::None));
    assert!(matches!(sink.find("2026"), Ok(Found::Many(ids)) if ids.len() > 1));
    assert!(sink.save(&run(77)).is_err());
}

/// What happens at the operation that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It fails; the next one works.
    Fails,
    /// The process is killed: nothing works from here on, and of what was being written half is there.
    Killed,
}

/// Called before each operation that changes something.
type Hook = Box<dyn FnMut()>;

/// A disk on which one operation fails, and on which someone may look on.
#[derive(Default)]
struct Faulty {
    done: Cell<u64>,
    fault: Cell<Option<(u64, Fault)>>,
    is_dead: Cell<bool>,
    hook: RefCell<Option<Hook>>,
    /// Called instead of waiting.
    on_pause: RefCell<Option<Hook>>,
    /// Whether another process may have the lock.
    is_shared: Cell<bool>,
    /// The directories that were synced.
    synced: RefCell<Vec<PathBuf>>,
}

impl Faulty {
    fn step(&self) -> io::Result<()> {
        if let Some(hook) = self.hook.borrow_mut().as_mut() {
            hook();
        }
        self.done.set(self.done.get() + 1);
        match self.fault.get() {
            Some((at, fault)) if at == self.done.get() => {
                self.is_dead.set(fault == Fault::Killed);
                Err(io::ErrorKind::StorageFull.into())
            }
            _ if self.is_dead.get() => Err(io::ErrorKind::Other.into()),
            _ => Ok(()),
        }
    }
}

impl FileSystem for Rc<Faulty> {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.step()?;
        Disk.create_new(path)
    }

    fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let was_alive = !self.is_dead.get();
        self.step().inspect_err(|_| {
            if was_alive {
                let _ = Disk.write_all(file, &bytes[..bytes.len() / 2]);
            }
        })?;
        Disk.write_all(file, bytes)
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        // Nobody pulls the plug in a test.
        self.step()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.synced.borrow_mut().push(path.to_path_buf());
        Ok(())
    }

    fn pause(&self, _: Duration) {
        if let Some(on_pause) = self.on_pause.borrow_mut().as_mut() {
            on_pause();
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.remove(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.create_directory(path)
    }

    fn names(&self, path: &Path, at_most: usize) -> io::Result<Vec<OsString>> {
        Disk.names(path, at_most)
    }

    /// Nobody else folds on this disk. But a test beside this one may be starting a program, and between its fork and its
    /// exec the child has a copy of every lock of this process.
    fn try_lock(&self, path: &Path) -> io::Result<Option<File>> {
        loop {
            match Disk.try_lock(path)? {
                Some(file) => return Ok(Some(file)),
                None if self.is_shared.get() => return Ok(None),
                None => std::thread::yield_now(),
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Adds a record, over already if so.
    Append(u8, bool),
    /// Says that it cost so much.
    Update(u8, u8),
    /// Says that it is over.
    Settle(u8),
    /// Brings three records at once, those that are new as over.
    Many(u8, u8),
    Fold,
    /// Clears what began before this day.
    Clear(u8),
}

fn day(number: u8) -> String {
    format!("2026-11-{:02}T00:00:00Z", 10 + number % 4)
}

/// The plain list, and the ledger that is held against it.
struct Model {
    root: PathBuf,
    list: BTreeMap<String, SessionCost>,
}

impl Model {
    fn read(&self) -> BTreeMap<String, SessionCost> {
        let (records, warnings) = all(&JsonFileCostSink::new(&self.root));
        assert!(warnings.is_empty(), "{warnings:?}");
        let count = records.len();
        let list: BTreeMap<_, _> = records.into_iter().map(|r| (r.id.clone(), r)).collect();
        assert_eq!(list.len(), count, "a record is there twice");
        list
    }

    /// Does it on both. `can_fail` says whether the ledger may: it is then as before or as after.
    fn apply(&mut self, sink: &mut JsonFileCostSink<Rc<Faulty>>, op: Op, can_fail: bool) {
        let id = |number: u8| format!("id-{number:02}");
        let mut after = self.list.clone();
        let result = match op {
            Op::Append(number, is_over) => {
                if after.contains_key(&id(number)) {
                    return;
                }
                let mut run = SessionCost::open(id(number), SessionType::Prompt, day(number));
                if is_over {
                    run.status = SessionStatus::Settled;
                }
                after.insert(id(number), run.clone());
                sink.append(&run)
            }
            Op::Update(number, cents) => {
                let Some(run) = after.get_mut(&id(number)) else {
                    assert!(
                        sink.save(&SessionCost::open(id(number), SessionType::Plan, day(0)))
                            .is_err()
                    );
                    return;
                };
                run.actual_usd = Usd::parse(&format!("0.{cents:03}")).ok();
                sink.save(run)
            }
            Op::Settle(number) => {
                let Some(run) = after.get_mut(&id(number)) else {
                    return;
                };
                run.status = SessionStatus::Settled;
                sink.save(run)
            }
            Op::Many(first, cents) => {
                let records = (first..first + 3).map(|number| {
                    let new = || {
                        let mut run =
                            SessionCost::open(id(number), SessionType::Import, day(number));
                        run.status = SessionStatus::Settled;
                        run
                    };
                    let run = after.entry(id(number)).or_insert_with(new);
                    run.actual_usd = Usd::parse(&format!("0.{cents:03}")).ok();
                    run.clone()
                });
                let records = records.collect();
                sink.save_all(records)
                    .map(|warnings| assert_eq!(warnings, [""; 0]))
            }
            Op::Fold => sink
                .fold(Fold::Now)
                .map(|folded| assert_ne!(folded, Folded::Busy)),
            Op::Clear(before) => {
                let before = clock::parse_rfc3339(&day(before)).unwrap();
                after.retain(|_, run| {
                    run.status == SessionStatus::Open
                        || clock::parse_rfc3339(&run.started_at).unwrap() >= before
                });
                let gone = self.list.len() - after.len();
                sink.remove(before)
                    .map(|removed| assert_eq!(removed.records, gone))
            }
        };
        let seen = self.read();
        match result {
            Ok(()) => assert_eq!(seen, after, "{op:?}"),
            Err(error) => {
                assert!(can_fail, "{op:?}: {error}");
                // Every record is as before or as after, and only what goes may be gone.
                for id in self.list.keys().chain(after.keys()) {
                    let is_either =
                        seen.get(id) == self.list.get(id) || seen.get(id) == after.get(id);
                    assert!(is_either, "{op:?}: {id} is {:?}", seen.get(id));
                }
                assert!(
                    seen.keys()
                        .all(|id| self.list.contains_key(id) || after.contains_key(id))
                );
            }
        }
        self.list = seen;
    }
}

/// Runs the script with one fault in it. False when the script was over before.
fn run_with_fault(script: &[Op], at: u64, fault: Fault) -> bool {
    let dir = Dir::new();
    let mut model = Model {
        root: dir.0.clone(),
        list: BTreeMap::new(),
    };
    let disk = Rc::new(Faulty::default());
    disk.fault.set(Some((at, fault)));
    let mut sink = JsonFileCostSink::on(Rc::clone(&disk), &dir.0);
    for op in script.iter().chain(&[Op::Fold, Op::Clear(3)]) {
        model.apply(&mut sink, *op, disk.done.get() < at);
        if disk.is_dead.get() {
            // Another process goes on.
            sink = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
            disk.is_dead.set(false);
        }
    }
    let mut healthy = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
    model.apply(&mut healthy, Op::Fold, false);
    disk.done.get() >= at
}

/// Goes through every path of the fold: packs that are merged, a packed record that changes and is folded again, and that
/// changes and is cleared.
const SCRIPT: &[Op] = &[
    Op::Append(0, true),
    Op::Append(1, true),
    Op::Append(2, false),
    Op::Update(2, 7),
    Op::Fold,
    Op::Append(3, true),
    Op::Append(4, true),
    Op::Settle(2),
    Op::Fold,
    Op::Update(1, 9),
    Op::Append(5, true),
    Op::Fold,
    Op::Update(0, 5),
    Op::Update(4, 6),
    Op::Append(6, false),
    Op::Append(8, true),
    Op::Clear(1),
    Op::Append(9, true),
    Op::Fold,
    Op::Clear(2),
    Op::Settle(6),
    Op::Fold,
    // New, packed, and loose; then all packed, and once more after a fold.
    Op::Append(10, true),
    Op::Append(12, false),
    Op::Many(8, 3),
    Op::Many(10, 4),
    Op::Many(9, 5),
    Op::Settle(12),
    Op::Fold,
    Op::Many(11, 6),
    Op::Clear(3),
    Op::Many(10, 7),
];

#[test]
fn a_fault_at_every_single_operation_loses_and_doubles_nothing() {
    for fault in [Fault::Fails, Fault::Killed] {
        let mut at = 1;
        while run_with_fault(SCRIPT, at, fault) {
            at += 1;
        }
        println!("{fault:?}: {at} operations");
        assert!(at > 100);
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..12_u8, any::<bool>()).prop_map(|(number, is_over)| Op::Append(number, is_over)),
        3 => (0..12_u8, any::<u8>()).prop_map(|(number, cents)| Op::Update(number, cents)),
        3 => (0..12_u8).prop_map(Op::Settle),
        2 => (0..10_u8, any::<u8>()).prop_map(|(first, cents)| Op::Many(first, cents)),
        3 => Just(Op::Fold),
        1 => (0..4_u8).prop_map(Op::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_script_with_a_fault_anywhere_agrees_with_a_plain_list(
        script in proptest::collection::vec(any_op(), 1..40),
        at in 1..300_u64,
        is_kill in any::<bool>(),
    ) {
        run_with_fault(&script, at, if is_kill { Fault::Killed } else { Fault::Fails });
    }
}

/// Runs the script, and looks at what a reader sees and at what was there before, at every moment of these operations.
fn look_during(is_meant: fn(&Op) -> bool, look: fn(&Model)) {
    let dir = Dir::new();
    let disk = Rc::new(Faulty::default());
    let mut sink = JsonFileCostSink::on(Rc::clone(&disk), &dir.0);
    let mut model = Model {
        root: dir.0.clone(),
        list: BTreeMap::new(),
    };
    let looks = Rc::new(Cell::new(0));
    for op in SCRIPT {
        if is_meant(op) {
            let looker = Model {
                root: dir.0.clone(),
                list: model.list.clone(),
            };
            let looks = Rc::clone(&looks);
            *disk.hook.borrow_mut() = Some(Box::new(move || {
                look(&looker);
                looks.set(looks.get() + 1);
            }));
        }
        model.apply(&mut sink, *op, false);
        *disk.hook.borrow_mut() = None;
    }
    assert!(looks.get() > 30, "{}", looks.get());
}

#[test]
fn a_reader_at_every_moment_of_a_fold_sees_every_record_once() {
    look_during(
        |op| matches!(op, Op::Fold),
        |looker| assert_eq!(looker.read(), looker.list),
    );
}

#[test]
fn a_reader_at_every_moment_of_a_batch_sees_no_record_twice_and_none_missing() {
    look_during(
        |op| matches!(op, Op::Many(..)),
        |looker| {
            let seen = looker.read();
            assert!(looker.list.keys().all(|id| seen.contains_key(id)));
        },
    );
}

#[test]
fn a_batch_is_synced_once_and_brought_again_changes_nothing() {
    let dir = Dir::new();
    let disk = Rc::new(Faulty::default());
    let sink = JsonFileCostSink::on(Rc::clone(&disk), &dir.0);
    let batch: Vec<_> = (0..700).map(over).collect();
    for _ in 0..2 {
        disk.done.set(0);
        assert_eq!(sink.save_all(batch.clone()), Ok(vec![]));
        assert!(disk.done.get() < 30, "{} operations", disk.done.get());
        assert_eq!(all(&sink), (batch.clone(), vec![]));
        assert_eq!(dir.segments(), 1);
        assert!(!dir.0.join("loose").exists());
    }
    let mut odd = batch;
    odd[3].started_at = "yesterday".to_string();
    odd[4].retries = 9;
    assert!(sink.save_all(odd).is_err());
    assert!(all(&sink).0.iter().all(|run| run.retries == 0));
}

#[test]
fn a_batch_does_not_wait_for_a_fold() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    sink.append(&over(1)).unwrap();
    sink.fold(Fold::Now).unwrap();
    let lock = Rc::new(Faulty::default())
        .try_lock(&dir.0.join("lock"))
        .unwrap();
    let mut changed = over(1);
    changed.retries = 1;
    sink.save_all(vec![changed.clone(), over(2)]).unwrap();
    assert_eq!(all(&sink), (vec![changed.clone(), over(2)], vec![]));
    assert_eq!(fs::read_dir(dir.0.join("loose")).unwrap().count(), 2);
    drop(lock);
    sink.fold(Fold::Now).unwrap();
    assert_eq!(all(&sink), (vec![changed, over(2)], vec![]));
}

#[test]
fn what_is_written_at_any_moment_of_a_fold_is_kept() {
    for at in 1.. {
        let dir = Dir::new();
        let disk = Rc::new(Faulty::default());
        let mut sink = JsonFileCostSink::on(Rc::clone(&disk), &dir.0);
        for number in 0..3 {
            sink.append(&over(number)).unwrap();
        }
        sink.fold(Fold::Now).unwrap();
        for number in 1..6 {
            let mut run = over(number);
            run.retries = 1;
            if number < 3 {
                sink.save(&run).unwrap();
            } else {
                sink.append(&run).unwrap();
            }
        }
        // Another process writes a later version of every record, and a new one, before one operation of the fold.
        let mut other = dir.sink();
        let mut left = at;
        let is_done = Rc::new(Cell::new(false));
        let done = Rc::clone(&is_done);
        *disk.hook.borrow_mut() = Some(Box::new(move || {
            left -= 1;
            if left == 0 {
                for number in 0..6 {
                    let mut run = over(number);
                    run.retries = 2;
                    other.save(&run).unwrap();
                }
                other.append(&over(6)).unwrap();
                done.set(true);
            }
        }));
        sink.fold(Fold::Now).unwrap();
        *disk.hook.borrow_mut() = None;
        if !is_done.get() {
            assert!(at > 10, "{at}");
            return;
        }
        for _ in 0..2 {
            let (records, warnings) = all(&sink);
            let retries: Vec<u32> = records.iter().map(|run| run.retries).collect();
            assert_eq!(retries, [2, 2, 2, 2, 2, 2, 0], "at {at}");
            assert_eq!(warnings, [""; 0]);
            sink.fold(Fold::Now).unwrap();
        }
    }
}

#[test]
fn two_folds_do_not_wait_for_one_another_and_clearing_gives_up_at_last() {
    let dir = Dir::new();
    let disk = Rc::new(Faulty::default());
    let mut sink = JsonFileCostSink::on(Rc::clone(&disk), &dir.0);
    sink.append(&over(1)).unwrap();
    let shared = Rc::new(Faulty::default());
    shared.is_shared.set(true);
    let other = JsonFileCostSink::on(shared, &dir.0);
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    *disk.hook.borrow_mut() = Some(Box::new(move || {
        // The first operations make the directory of the lock.
        match other.fold(Fold::Now) {
            Ok(Folded::Busy) => {
                assert!(other.remove(SystemTime::UNIX_EPOCH).is_err());
                count.set(count.get() + 1);
            }
            other => assert!(count.get() == 0, "{other:?}"),
        }
    }));
    sink.fold(Fold::Now).unwrap();
    *disk.hook.borrow_mut() = None;
    assert_eq!(all(&sink).0, [over(1)]);
    println!("busy {} times", seen.get());
}

#[test]
fn clearing_waits_for_a_fold() {
    let dir = Dir::new();
    let disk = Rc::new(Faulty::default());
    disk.is_shared.set(true);
    let mut sink = JsonFileCostSink::on(Rc::clone(&disk), &dir.0);
    sink.append(&over(1)).unwrap();
    let mut lock = Disk.try_lock(&dir.0.join("lock")).unwrap();
    assert!(lock.is_some());
    let mut pauses = 0;
    *disk.on_pause.borrow_mut() = Some(Box::new(move || {
        pauses += 1;
        if pauses == 3 {
            drop(lock.take());
        }
    }));
    let later = clock::parse_rfc3339("2027-01-01T00:00:00Z").unwrap();
    assert_eq!(sink.remove(later).unwrap().records, 1);
    assert_eq!(all(&sink), (vec![], vec![]));
}

#[test]
fn every_directory_that_is_new_is_synced_into_the_one_above() {
    let dir = Dir::new();
    fs::create_dir(&dir.0).unwrap();
    let disk = Rc::new(Faulty::default());
    let mut sink = JsonFileCostSink::on(Rc::clone(&disk), dir.0.join("state/omk/ledger"));
    sink.append(&over(1)).unwrap();
    let names = [
        "",
        "state",
        "state/omk",
        "state/omk/ledger",
        "state/omk/ledger/loose",
    ];
    assert_eq!(*disk.synced.borrow(), names.map(|name| dir.0.join(name)));
}

#[test]
fn the_columns_of_a_segment_are_those_of_its_records() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    for number in 0..4_u8 {
        let mut run = over(u32::from(number));
        run.started_at = day(number);
        run.model.requested = Some("kimi".to_string());
        run.actual_usd = Usd::parse(&format!("0.00{number}")).ok();
        run.worst_case_usd = (number == 1).then_some(Usd::from_usd(3));
        run.exit = Some(number);
        run.kind = crate::cost::record::CostKind::ALL[usize::from(number) % 3];
        run.charged = crate::cost::record::Charge::ALL[usize::from(number) % 3];
        run.name = format!("a \"name\" {}", number / 2);
        run.usage = (number > 1).then_some(crate::cost::record::Usage {
            input: Some(u64::MAX),
            cache_read: None,
            cache_write: Some(0),
            output: Some(u64::from(number)),
            reasoning: None,
            source: crate::cost::record::UsageSource::Estimate,
            unreported: 0,
        });
        sink.append(&run).unwrap();
    }
    let period = Period {
        from: clock::parse_rfc3339(&day(1)).ok(),
        until: clock::parse_rfc3339(&day(3)).ok(),
    };
    let columns = |sink: &JsonFileCostSink, period| {
        let mut seen = Vec::new();
        sink.scan(period, &mut |view| {
            seen.push(format!("{view:?}"));
            ControlFlow::Continue(())
        })
        .unwrap();
        seen
    };
    for period in [period, Period::default()] {
        let loose = columns(&sink, period);
        assert_eq!(loose.len(), if period.from.is_some() { 2 } else { 4 });
        let copy = Dir::new();
        let mut folded = copy.sink();
        for record in all(&sink).0 {
            folded.append(&record).unwrap();
        }
        folded.fold(Fold::Now).unwrap();
        assert_eq!(columns(&folded, period), loose);
    }
}

#[test]
fn segments_are_carried_like_digits() {
    let dir = Dir::new();
    let mut sink = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
    for number in 0..32 {
        sink.append(&over(number)).unwrap();
        sink.fold(Fold::Now).unwrap();
        let ones = usize::try_from((number + 1).count_ones()).unwrap();
        assert_eq!(dir.segments(), ones);
    }
}

#[test]
fn it_folds_by_itself_when_enough_is_over() {
    let dir = Dir::new();
    let mut sink = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
    for number in 0..513 {
        assert_eq!(sink.fold(Fold::IfDue), Ok(Folded::NotDue), "{number}");
        // One of them is open, and does not count.
        let record = if number == 0 { run(0) } else { over(number) };
        sink.append(&record).unwrap();
    }
    let done = Folded::Done {
        records: 512,
        warnings: vec![],
    };
    assert_eq!(sink.fold(Fold::IfDue), Ok(done));
    assert_eq!(fs::read_dir(dir.0.join("loose")).unwrap().count(), 1);
    assert_eq!(all(&sink).0.len(), 513);
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    let mut sink = JsonFileCostSink::new(dir.0.join("state/ledger"));
    sink.append(&over(1)).unwrap();
    sink.append(&run(2)).unwrap();
    sink.fold(Fold::Now).unwrap();
    let mut left = vec![dir.0.clone()];
    let mut seen = 0;
    while let Some(path) = left.pop() {
        let is_directory = path.is_dir();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            mode,
            if is_directory { 0o700 } else { 0o600 },
            "{}",
            path.display()
        );
        if is_directory {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            seen += 1;
        }
    }
    // The lock, a loose record, a segment with its sums, and what stops omk 0.6.0.
    assert_eq!(seen, 5);
}

#[test]
fn torn_and_foreign_files_are_left_aside_with_a_warning() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    for number in 0..3 {
        sink.append(&over(number)).unwrap();
    }
    sink.fold(Fold::Now).unwrap();
    for number in 3..6 {
        sink.append(&over(number)).unwrap();
    }
    let torn = dir.0.join(format!("loose/{}.json", over(4).id));
    let bytes = fs::read(&torn).unwrap();
    fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    let copied = dir.0.join("loose/copy.json");
    fs::copy(dir.0.join(format!("loose/{}.json", over(5).id)), &copied).unwrap();
    let foreign = dir.0.join("loose/notes.txt");
    fs::write(&foreign, "mine").unwrap();
    fs::write(dir.0.join("loose/.omk-1-2-3.tmp"), "half").unwrap();
    let odd_segment = dir.0.join("segments/odd.jsonl");
    fs::write(&odd_segment, "mine").unwrap();
    for _ in 0..2 {
        let (records, warnings) = all(&sink);
        assert_eq!(records, [0, 1, 2, 3, 5].map(over));
        assert_eq!(warnings.len(), 4, "{warnings:#?}");
        for path in [&torn, &copied, &foreign, &odd_segment] {
            let name = path.display().to_string();
            assert!(
                warnings.iter().any(|warning| warning.contains(&name)),
                "{warnings:#?}"
            );
        }
        sink.fold(Fold::Now).unwrap();
        sink.remove(SystemTime::UNIX_EPOCH).unwrap();
    }
    for path in [&torn, &copied, &foreign, &odd_segment] {
        assert!(path.exists());
    }
    assert!(sink.save(&over(4)).unwrap_err().hint.is_some());
}

const FIRST: &str = "segments/2026-11.00000001.jsonl";

#[test]
fn a_torn_segment_is_reported_and_kept() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    for number in 0..3 {
        sink.append(&over(number)).unwrap();
    }
    sink.fold(Fold::Now).unwrap();
    let segment = dir.0.join(FIRST);
    let bytes = fs::read(&segment).unwrap();
    for (torn, readable) in [
        (&bytes[..bytes.len() - 1], &[0, 1][..]),
        (&bytes[..9], &[]),
        (b"", &[]),
        (&[&bytes[..], b"x"].concat(), &[0, 1, 2]),
    ] {
        fs::write(&segment, torn).unwrap();
        sink.append(&over(5)).unwrap();
        let (records, warnings) = all(&sink);
        let readable = readable.iter().map(|number| over(*number));
        assert_eq!(records, readable.chain([over(5)]).collect::<Vec<_>>());
        assert!(warnings[0].contains(FIRST), "{warnings:?}");
        // What comes after is folded nevertheless, and nothing touches the torn one.
        assert!(matches!(
            sink.fold(Fold::Now),
            Ok(Folded::Done { records: 1, .. })
        ));
        let later = clock::parse_rfc3339("2027-01-01T00:00:00Z").unwrap();
        assert_eq!(sink.remove(later).unwrap().records, 1);
        assert_eq!(fs::read(&segment).unwrap(), torn);
    }
    fs::write(&segment, &bytes).unwrap();
    assert_eq!(all(&sink).0, [0, 1, 2].map(over));
}

#[test]
fn a_later_version_is_refused_by_name_and_untouched() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    sink.append(&over(1)).unwrap();
    sink.fold(Fold::Now).unwrap();
    sink.append(&over(2)).unwrap();
    let loose = format!("loose/{}.json", over(2).id);
    for name in [loose.as_str(), FIRST] {
        let path = dir.0.join(name);
        let text = fs::read_to_string(&path).unwrap();
        let newer = text.replacen("\"version\":2", "\"version\":3,\"more\":[]", 1);
        assert_ne!(text, newer);
        fs::write(&path, &newer).unwrap();
        let error = sink.load(&mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(
            error.detail.contains(&path.display().to_string()),
            "{error}"
        );
        assert!(error.detail.contains("version 3"), "{error}");
        assert!(sink.fold(Fold::Now).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), newer);
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(all(&sink).0, [1, 2].map(over));
}

#[test]
fn a_segment_that_was_replaced_does_not_count_even_if_it_is_still_there() {
    let dir = Dir::new();
    let mut sink = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
    sink.append(&over(1)).unwrap();
    sink.fold(Fold::Now).unwrap();
    let bytes = fs::read(dir.0.join(FIRST)).unwrap();
    sink.append(&over(2)).unwrap();
    sink.fold(Fold::Now).unwrap();
    assert!(!dir.0.join(FIRST).exists());
    fs::write(dir.0.join(FIRST), bytes).unwrap();
    assert_eq!(all(&sink), (vec![over(1), over(2)], vec![]));
    sink.fold(Fold::Now).unwrap();
    assert!(!dir.0.join(FIRST).exists());
}

/// What a report adds up, with what it says beside.
fn total(sink: &impl CostSink, period: Period) -> (Sums, Vec<String>) {
    let mut total = Sums::default();
    let notes = sink.sums(period, &Labels::Some(vec![]), &mut |runs| {
        runs.add_to(&mut total);
    });
    (total, notes.unwrap().lines())
}

/// The same from the records themselves.
fn total_of_records(sink: &impl CostSink, period: Period) -> Sums {
    let mut total = Sums::default();
    sink.scan(period, &mut |run| {
        total.add(run);
        ControlFlow::Continue(())
    })
    .unwrap();
    total
}

#[test]
fn sums_are_kept_and_can_be_deleted() {
    let dir = Dir::new();
    let mut sink = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
    for number in 0..8 {
        let mut run = over(number);
        run.started_at = day(u8::try_from(number).unwrap());
        run.actual_usd = Usd::parse(&format!("0.00{number}")).ok();
        run.charged = Charge::Yes;
        sink.append(&run).unwrap();
    }
    sink.fold(Fold::Now).unwrap();
    let mut later = over(3);
    later.started_at = day(3);
    later.retries = 5;
    let days = Period {
        from: clock::parse_rfc3339(&day(1)).ok(),
        until: clock::parse_rfc3339(&day(3)).ok(),
    };
    let hours = Period {
        from: clock::parse_rfc3339("2026-11-11T00:00:01Z").ok(),
        until: None,
    };
    let check = |sink: &JsonFileCostSink<Rc<Faulty>>, kept: usize| {
        for period in [Period::default(), days, hours] {
            assert_eq!(
                total(sink, period),
                (total_of_records(sink, period), vec![])
            );
        }
        let mut many = 0;
        sink.sums(Period::default(), &Labels::Some(vec![]), &mut |runs| {
            many += usize::from(matches!(runs, Runs::Many(..)));
        })
        .unwrap();
        assert_eq!(many, kept);
    };
    check(&sink, 8);
    // A later version of a record that is in the sums makes them useless until it is folded.
    sink.save(&later).unwrap();
    check(&sink, 0);
    sink.fold(Fold::Now).unwrap();
    check(&sink, 8);
    let sums = dir.0.join("segments/2026-11.00000002.sums");
    fs::write(&sums, "{").unwrap();
    check(&sink, 0);
    fs::remove_file(&sums).unwrap();
    check(&sink, 0);
    sink.fold(Fold::Now).unwrap();
    check(&sink, 8);
}

/// The ledger that 0.6.0 left: two packs, a packed record that was changed later, one that a killed fold had taken, and one
/// that is open.
fn copy_of_0_6_0() -> Dir {
    let dir = Dir::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ledger_0_6_0");
    for name in ["", "loose", "folding", "packs"] {
        fs::create_dir_all(dir.0.join(name)).unwrap();
        for entry in fs::read_dir(from.join(name)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                fs::copy(entry.path(), dir.0.join(name).join(entry.file_name())).unwrap();
            }
        }
    }
    dir
}

fn described(records: &[SessionCost]) -> String {
    let usd = |usd: Option<Usd>| usd.map_or("-".to_string(), Usd::exact_decimal);
    let lines = records.iter().map(|run| {
        let (actual, bound) = (usd(run.actual_usd), usd(run.worst_case_usd));
        let SessionCost {
            id,
            started_at,
            status,
            retries,
            ..
        } = run;
        format!("{id} {started_at} {status} {actual} {bound} {retries}\n")
    });
    lines.collect()
}

const OF_0_6_0: &str = include_str!("../../../tests/fixtures/ledger_0_6_0.txt");

#[test]
fn a_ledger_of_0_6_0_is_read_and_converted_whatever_fails() {
    let dir = copy_of_0_6_0();
    let (records, warnings) = all(&dir.sink());
    assert_eq!(
        (described(&records), warnings),
        (OF_0_6_0.to_string(), vec![])
    );
    let found = dir.sink().find("20261201T1003").unwrap();
    assert!(matches!(found, Found::One(run) if run.tags["run"] == "3"));
    for fault in [Fault::Fails, Fault::Killed] {
        for at in 1.. {
            let dir = copy_of_0_6_0();
            let disk = Rc::new(Faulty::default());
            disk.fault.set(Some((at, fault)));
            let look = dir.sink();
            *disk.hook.borrow_mut() = Some(Box::new(move || {
                assert_eq!(described(&all(&look).0), OF_0_6_0);
            }));
            let sink = JsonFileCostSink::on(Rc::clone(&disk), &dir.0);
            let folded = sink.fold(Fold::Now);
            assert_eq!(
                described(&all(&dir.sink()).0),
                OF_0_6_0,
                "{fault:?} at {at}"
            );
            let healthy = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
            healthy.fold(Fold::Now).unwrap();
            assert_eq!(described(&all(&healthy).0), OF_0_6_0);
            assert_eq!(fs::read_dir(dir.0.join("packs")).unwrap().count(), 0);
            if disk.done.get() < at {
                assert!(folded.is_ok() && at > 20, "{at}");
                break;
            }
        }
    }
}

#[test]
fn a_torn_pack_of_0_6_0_is_reported_and_kept() {
    let dir = copy_of_0_6_0();
    let pack = dir.0.join("packs/00000004.pack");
    let bytes = fs::read(&pack).unwrap();
    for torn in [&bytes[..bytes.len() - 1], &bytes[..900], &bytes[..9], b""] {
        fs::write(&pack, torn).unwrap();
        let (records, warnings) = all(&dir.sink());
        assert!(records.len() >= 6, "{records:?}");
        assert!(warnings[0].contains("00000004.pack"), "{warnings:?}");
        dir.sink().fold(Fold::Now).unwrap();
        assert_eq!(fs::read(&pack).unwrap(), torn);
    }
}

#[test]
fn what_killed_writers_left_is_swept_when_it_is_old() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    sink.append(&over(1)).unwrap();
    sink.fold(Fold::Now).unwrap();
    let path = |name: &str| dir.0.join(name);
    for (name, hours) in [
        ("loose/.omk-1-0-1.tmp", 25),
        ("segments/.omk-1-0-2.tmp", 25),
        ("loose/.omk-1-0-3.tmp", 1),
        ("loose/notes.tmp", 1000),
    ] {
        let file = File::create(path(name)).unwrap();
        let age = std::time::Duration::from_secs(hours * 3600);
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    sink.fold(Fold::Now).unwrap();
    assert!(!path("loose/.omk-1-0-1.tmp").exists());
    assert!(!path("segments/.omk-1-0-2.tmp").exists());
    assert!(path("loose/.omk-1-0-3.tmp").exists());
    assert!(path("loose/notes.tmp").exists());
}

#[test]
fn what_cannot_be_read_again_is_not_written() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    for id in ["", "../x", "a/b", ".hidden", "a b", &"x".repeat(129)] {
        let record = SessionCost::open(id, SessionType::Plan, day(0));
        assert!(sink.append(&record).is_err(), "{id}");
    }
    let mut undated = over(1);
    undated.started_at = "today".to_string();
    assert!(sink.append(&undated).is_err());
    let mut dear = over(1);
    let trillion = Usd::parse("1000000000000").unwrap();
    dear.actual_usd = Some(trillion + trillion);
    assert!(sink.append(&dear).is_err());
    assert_eq!(all(&sink), (vec![], vec![]));
}

#[test]
fn failures_say_what_mends_them() {
    let dir = Dir::new();
    let disk = Rc::new(Faulty::default());
    disk.fault.set(Some((1, Fault::Fails)));
    let mut sink = JsonFileCostSink::on(disk, &dir.0);
    let error = sink.append(&over(1)).unwrap_err();
    assert!(
        error.detail.contains(&dir.0.display().to_string()),
        "{error}"
    );
    assert!(error.hint.unwrap().contains("make room"));
    fs::write(&dir.0, "a file").unwrap();
    let error = dir.sink().append(&over(1)).unwrap_err();
    assert!(
        error.hint.unwrap().contains("OMK_LEDGER"),
        "{}",
        error.detail
    );
    fs::remove_file(&dir.0).unwrap();
}

proptest! {
    #[test]
    fn any_bytes_are_read(
        loose in proptest::collection::vec(any::<u8>(), 0..60),
        pack in proptest::collection::vec(any::<u8>(), 0..60),
        list in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let dir = Dir::new();
        let sink = dir.sink();
        for name in ["loose", "packs", "segments"] {
            fs::create_dir_all(dir.0.join(name)).unwrap();
        }
        for (name, bytes) in [("loose/a.json", loose), ("packs/1.pack", pack), (FIRST, list)] {
            fs::write(dir.0.join(name), &bytes).unwrap();
        }
        assert!(all(&sink).0.is_empty());
        let _ = (sink.find("a"), sink.contains("a"), sink.fold(Fold::Now));
    }

    #[test]
    fn a_segment_with_any_byte_changed_is_read(at in any::<usize>(), byte in any::<u8>()) {
        let dir = Dir::new();
        let mut sink = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
        for number in 0..3 {
            sink.append(&over(number)).unwrap();
        }
        sink.fold(Fold::Now).unwrap();
        let path = dir.0.join(FIRST);
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        fs::write(&path, bytes).unwrap();
        let count = sink.scan(Period::default(), &mut |_| ControlFlow::Continue(()));
        let _ = (count, sink.load(&mut |_| ControlFlow::Continue(())), sink.find("2"));
        let _ = (sink.fold(Fold::Now), sink.remove(SystemTime::UNIX_EPOCH));
    }
}

/// A small ledger: a segment with two records, and two of their own, one of them open.
fn small() -> Dir {
    let dir = Dir::new();
    let mut sink = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
    for number in 0..4 {
        let mut run = run(number);
        run.worst_case_usd = Some(Usd::from_usd(5));
        if number < 3 {
            run.status = SessionStatus::Settled;
            run.charged = Charge::Yes;
            run.actual_usd = Usd::parse(&format!("1.{number}")).ok();
            run.worst_case_usd = run.actual_usd;
        }
        sink.append(&run).unwrap();
        if number == 1 {
            sink.fold(Fold::Now).unwrap();
        }
    }
    dir
}

/// What a budget counts, or that it refuses.
fn counted(sink: &JsonFileCostSink) -> Result<Usd, SinkError> {
    let now = clock::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    let budgets = budget::parse_budgets("99/day").unwrap();
    let tracker = CostTracker::new(sink.clone());
    let (standings, _) = budget::standings(&tracker, &budgets, now, None)?;
    assert_eq!(standings[0].unknown, 0);
    Ok(standings[0].total())
}

/// Holds the ledger with one changed file against the whole one: a figure is the same or something is said, and no budget
/// has more room.
fn check_changed(sink: &JsonFileCostSink, whole: (&[String], Usd), what: &str) {
    let (records, reserved) = whole;
    let is_said = |notes: &Result<Notes, SinkError>| match notes {
        Ok(notes) => !notes.damage.is_empty(),
        Err(_) => true,
    };
    let mut seen = Vec::new();
    let notes = sink.load(&mut |record| {
        seen.push(serde_json::to_string(record).unwrap());
        ControlFlow::Continue(())
    });
    seen.sort();
    assert!(
        seen == *records || is_said(&notes),
        "{what}: a record changed silently"
    );
    assert!(
        seen.iter().all(|record| records.contains(record)),
        "{what}: {seen:?}"
    );
    if let Ok(counted) = counted(sink) {
        assert_eq!(counted, reserved, "{what}: a budget opened");
    }
}

/// Every file of a directory that has contents.
fn files_of(root: &Path) -> Vec<PathBuf> {
    let mut left = vec![root.to_path_buf()];
    let mut files = Vec::new();
    while let Some(path) = left.pop() {
        match path.is_dir() {
            true => left.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            ),
            false => files.push(path),
        }
    }
    files.retain(|path| fs::metadata(path).unwrap().len() > 0);
    files.sort();
    files
}

#[test]
fn no_flipped_bit_and_no_cut_changes_a_figure_silently_or_opens_a_budget() {
    let dir = small();
    let sink = dir.sink();
    let mut records: Vec<String> = all(&sink)
        .0
        .iter()
        .map(|record| serde_json::to_string(record).unwrap())
        .collect();
    records.sort();
    let reserved = counted(&sink).unwrap();
    assert_eq!(reserved, Usd::parse("8.3").unwrap());
    let whole = (&records[..], reserved);
    let files = files_of(&dir.0);
    assert_eq!(files.len(), 5, "{files:?}");
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            fs::write(&path, &bytes[..at]).unwrap();
            check_changed(&sink, whole, &format!("{} cut at {at}", path.display()));
            let mut flipped = bytes.clone();
            for bit in 0..8 {
                flipped[at] = bytes[at] ^ 1 << bit;
                fs::write(&path, &flipped).unwrap();
                check_changed(
                    &sink,
                    whole,
                    &format!("{}, bit {bit} of {at}", path.display()),
                );
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
    check_changed(&sink, whole, "whole again");
}

#[test]
fn what_is_repaired_counts_at_what_could_be_read_of_its_bound() {
    let now = clock::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    let loose = |number: u32| format!("loose/{}.json", run(number).id);
    // The sums beside a segment say what its lost records came to; a record of its own names its bound.
    for (name, cut, runs, counted_after) in [
        (FIRST.to_string(), 10, 1, "8.3"),
        (FIRST.to_string(), usize::MAX, 2, "8.3"),
        (loose(2), 10, 1, "8.3"),
        (loose(3), 10, 1, "8.3"),
    ] {
        let dir = small();
        let disk = Rc::new(Faulty::default());
        let sink = JsonFileCostSink::on(Rc::clone(&disk), &dir.0);
        let path = dir.0.join(&name);
        let bytes = fs::read(&path).unwrap();
        let torn = &bytes[..bytes.len().saturating_sub(cut)];
        fs::write(&path, torn).unwrap();
        let error = counted(&dir.sink()).unwrap_err();
        assert!(error.detail.contains(&name), "{error}");
        assert!(error.hint.unwrap().contains("omk cost repair"));
        let verified = sink.verify().unwrap();
        assert_eq!(verified.notes.damage.len(), 1, "{verified:?}");
        assert_eq!(verified.notes.damage[0].runs, runs);
        let (aside, warnings) = sink.repair(now).unwrap();
        assert_eq!((aside.len(), warnings.len()), (1, 0));
        assert_eq!(fs::read(&aside[0].to).unwrap(), torn);
        assert_eq!(sink.verify().unwrap().notes, Notes::default());
        assert_eq!(
            counted(&dir.sink()).unwrap(),
            Usd::parse(counted_after).unwrap(),
            "{name}"
        );
        assert_eq!(sink.repair(now).unwrap(), (vec![], vec![]));
        // It is a record like any other from then on.
        let id = aside[0].stands_for.clone().unwrap();
        assert!(sink.contains(&id).unwrap());
        assert!(matches!(sink.fold(Fold::Now), Ok(Folded::Done { .. })));
        assert_eq!(
            counted(&dir.sink()).unwrap(),
            Usd::parse(counted_after).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_run_without_a_readable_bound_stays_unknown() {
    let now = clock::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    let dir = small();
    let path = dir.0.join(format!("loose/{}.json", run(3).id));
    fs::write(&path, "").unwrap();
    let sink = dir.sink();
    let (aside, _) = sink.repair(now).unwrap();
    assert_eq!(aside[0].damage.bound, None);
    let tracker = CostTracker::new(sink.clone());
    // Also for a budget of a label, which the run may have had.
    for budgets in ["99/day", "tag:team=99/day"] {
        let budgets = budget::parse_budgets(budgets).unwrap();
        let (standings, _) = budget::standings(&tracker, &budgets, now, None).unwrap();
        assert_eq!(standings[0].unknown, 1);
    }
    let later = clock::parse_rfc3339("2026-11-21T00:00:00Z").unwrap();
    assert_eq!(sink.remove(later).unwrap().records, 4);
}

#[test]
fn a_fault_during_a_repair_opens_no_budget() {
    let now = clock::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    for name in [FIRST.to_string(), format!("loose/{}.json", run(3).id)] {
        for fault in [Fault::Fails, Fault::Killed] {
            for at in 1.. {
                let dir = small();
                let path = dir.0.join(&name);
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
                let disk = Rc::new(Faulty::default());
                disk.fault.set(Some((at, fault)));
                let _ = JsonFileCostSink::on(Rc::clone(&disk), &dir.0).repair(now);
                if let Ok(counted) = counted(&dir.sink()) {
                    assert!(
                        counted >= Usd::parse("8.3").unwrap(),
                        "{name} at {at}: {counted}"
                    );
                }
                let healthy = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
                healthy.repair(now).unwrap();
                assert_eq!(counted(&dir.sink()).unwrap(), Usd::parse("8.3").unwrap());
                if disk.done.get() < at {
                    assert!(at > 5, "{at}");
                    break;
                }
            }
        }
    }
}
