//! The ledger against a plain list.

use std::cell::Cell;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering as Memory;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::catalog::money::Usd;
use crate::cost::record::SessionType;

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
    (records, warnings.unwrap())
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
    assert_eq!(fs::read_dir(dir.0.join("packs")).unwrap().count(), 1);
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

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        self.step()
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
        assert!(disk.done.get() < 20, "{} operations", disk.done.get());
        assert_eq!(all(&sink), (batch.clone(), vec![]));
        assert_eq!(fs::read_dir(dir.0.join("packs")).unwrap().count(), 1);
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
fn two_folds_do_not_wait_for_one_another() {
    let dir = Dir::new();
    let disk = Rc::new(Faulty::default());
    let mut sink = JsonFileCostSink::on(Rc::clone(&disk), &dir.0);
    sink.append(&over(1)).unwrap();
    let other = dir.sink();
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    *disk.hook.borrow_mut() = Some(Box::new(move || {
        // The first operation makes the directory of the lock.
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
fn the_columns_of_a_pack_are_those_of_its_records() {
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
fn packs_are_carried_like_digits() {
    let dir = Dir::new();
    let mut sink = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
    for number in 0..32 {
        sink.append(&over(number)).unwrap();
        sink.fold(Fold::Now).unwrap();
        let packs = fs::read_dir(dir.0.join("packs")).unwrap().count();
        assert_eq!(packs, usize::try_from((number + 1).count_ones()).unwrap());
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
    assert_eq!(seen, 4);
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
    let odd_pack = dir.0.join("packs/odd.pack");
    fs::write(&odd_pack, "mine").unwrap();
    for _ in 0..2 {
        let (records, warnings) = all(&sink);
        assert_eq!(records, [0, 1, 2, 3, 5].map(over));
        assert_eq!(warnings.len(), 3, "{warnings:#?}");
        for path in [&torn, &copied, &foreign] {
            let name = path.display().to_string();
            assert!(
                warnings.iter().any(|warning| warning.contains(&name)),
                "{warnings:#?}"
            );
        }
        sink.fold(Fold::Now).unwrap();
        sink.remove(SystemTime::UNIX_EPOCH).unwrap();
    }
    for path in [&torn, &copied, &foreign, &odd_pack] {
        assert!(path.exists());
    }
    assert!(sink.save(&over(4)).unwrap_err().hint.is_some());
}

#[test]
fn a_torn_pack_is_told_of_and_kept() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    for number in 0..3 {
        sink.append(&over(number)).unwrap();
    }
    sink.fold(Fold::Now).unwrap();
    let pack = dir.0.join("packs/00000001.pack");
    let bytes = fs::read(&pack).unwrap();
    for torn in [
        &bytes[..bytes.len() - 1],
        &bytes[..9],
        b"",
        &[&bytes[..], b"x"].concat(),
    ] {
        fs::write(&pack, torn).unwrap();
        sink.append(&over(5)).unwrap();
        let (records, warnings) = all(&sink);
        assert_eq!(records, [over(5)]);
        assert!(warnings[0].contains("00000001.pack"), "{warnings:?}");
        // What comes after is folded nevertheless, and nothing touches the torn one.
        assert!(matches!(
            sink.fold(Fold::Now),
            Ok(Folded::Done { records: 1, .. })
        ));
        let later = clock::parse_rfc3339("2027-01-01T00:00:00Z").unwrap();
        assert_eq!(sink.remove(later).unwrap().records, 1);
        assert_eq!(fs::read(&pack).unwrap(), torn);
    }
    fs::write(&pack, &bytes).unwrap();
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
    for name in [loose.as_str(), "packs/00000001.pack", "packs.json"] {
        let path = dir.0.join(name);
        let text = fs::read_to_string(&path).unwrap();
        let newer = text.replacen("\"version\":1", "\"version\":2,\"more\":[]", 1);
        assert_ne!(text, newer);
        fs::write(&path, &newer).unwrap();
        let error = sink.load(&mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(
            error.detail.contains(&path.display().to_string()),
            "{error}"
        );
        assert!(error.detail.contains("version 2"), "{error}");
        assert!(sink.fold(Fold::Now).is_err() || name == "packs/00000001.pack");
        assert_eq!(fs::read_to_string(&path).unwrap(), newer);
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(all(&sink).0, [1, 2].map(over));
}

#[test]
fn the_packs_can_do_without_their_list() {
    let dir = Dir::new();
    let mut sink = dir.sink();
    let mut expected = Vec::new();
    for number in 0..11 {
        sink.append(&over(number)).unwrap();
        sink.fold(Fold::Now).unwrap();
        expected.push(over(number));
    }
    let path = dir.0.join("packs.json");
    fs::remove_file(&path).unwrap();
    assert_eq!(all(&sink), (expected.clone(), vec![]));
    fs::write(&path, "{").unwrap();
    let (records, warnings) = all(&sink);
    assert_eq!(records, expected);
    assert!(warnings[0].contains("packs.json"), "{warnings:?}");
    sink.append(&over(11)).unwrap();
    expected.push(over(11));
    sink.fold(Fold::Now).unwrap();
    assert_eq!(all(&sink), (expected, vec![]));
    // The damaged one is still there under another name.
    let names = Disk.names(&dir.0, 99).unwrap();
    assert!(
        names
            .iter()
            .any(|name| name.to_string_lossy().starts_with("packs.damaged-"))
    );
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
        ("packs/.omk-1-0-2.tmp", 25),
        ("loose/.omk-1-0-3.tmp", 1),
        ("loose/notes.tmp", 1000),
    ] {
        let file = File::create(path(name)).unwrap();
        let age = std::time::Duration::from_secs(hours * 3600);
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    sink.fold(Fold::Now).unwrap();
    assert!(!path("loose/.omk-1-0-1.tmp").exists());
    assert!(!path("packs/.omk-1-0-2.tmp").exists());
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
        for name in ["loose", "packs"] {
            fs::create_dir_all(dir.0.join(name)).unwrap();
        }
        for (name, bytes) in [("loose/a.json", loose), ("packs/1.pack", pack), ("packs.json", list)] {
            fs::write(dir.0.join(name), &bytes).unwrap();
        }
        assert!(all(&sink).0.is_empty());
        let _ = (sink.find("a"), sink.contains("a"), sink.fold(Fold::Now));
    }

    #[test]
    fn a_pack_with_any_byte_changed_is_read(at in any::<usize>(), byte in any::<u8>()) {
        let dir = Dir::new();
        let mut sink = JsonFileCostSink::on(Rc::new(Faulty::default()), &dir.0);
        for number in 0..3 {
            sink.append(&over(number)).unwrap();
        }
        sink.fold(Fold::Now).unwrap();
        let path = dir.0.join("packs/00000001.pack");
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        fs::write(&path, bytes).unwrap();
        let count = sink.scan(Period::default(), &mut |_| ControlFlow::Continue(()));
        let _ = (count, sink.load(&mut |_| ControlFlow::Continue(())), sink.find("2"));
        let _ = (sink.fold(Fold::Now), sink.remove(SystemTime::UNIX_EPOCH));
    }
}
