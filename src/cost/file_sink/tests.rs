//! The ledger against a plain list.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::*;
use crate::cost::record::SessionType;

/// A directory that is gone with the value.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
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
