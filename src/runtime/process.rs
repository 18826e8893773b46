//! Who this process is, whether another one still is, and which ones descend from it.
//!
//! A number alone does not say: the system gives it to someone else soon after. So a process is named by its machine, its
//! number and a text that the next owner of the number cannot have. Linux tells all of it under `/proc`; elsewhere `ps`
//! and `uname` are asked, because the system calls behind them need `unsafe`. A process that cannot be seen from here is
//! neither alive nor dead.

use std::fs;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;

use crate::runtime::crc32c::crc32c;

/// The space of process numbers of the system itself, which Linux numbers so on every machine; containers get others.
const FIRST_SPACE: &str = "4026531836";

/// The name of this machine, or of the container; empty when the system does not tell.
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    name.or_else(|| output("uname", &["-n"]))
        .map(|name| name.trim().to_string())
        .unwrap_or_default()
}

/// What tells the process of this number from any other that has or had it, on this machine; `None` when there is none now.
///
/// On Linux `BOOT:SPACE:TICKS[:MACHINE]`: which run of the system, which space of process numbers, the moment of its start in
/// the kernel's ticks, and the machine where that can be told. Elsewhere the start to the second as `ps` prints it. Empty where neither can be had.
pub fn birth(pid: u32) -> Option<String> {
    match space() {
        Some(space) => {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let birth = format!("{space}:{}", start_ticks(&stat)?);
            Some(match machine(&space) {
                Some(machine) => format!("{birth}:{machine}"),
                None => birth,
            })
        }
        // Without `ps`, this process at least is there.
        None if pid == std::process::id() => Some(started_by_ps(pid).unwrap_or_default()),
        None => started_by_ps(pid),
    }
}

/// Whether the process of that number and birth still runs on this machine; `None` when that cannot be seen from here.
pub fn is_alive(pid: u32, birth_then: &str) -> Option<bool> {
    if birth_then.is_empty() {
        return None;
    }
    if let Some(space) = space() {
        let mut then = birth_then.splitn(4, ':');
        let (boot_then, space_then, ticks) = (then.next()?, then.next()?, then.next()?);
        let (boot, number) = space.split_once(':')?;
        if boot != boot_then {
            // Another machine of the same name, or this one before it was started anew; then nothing of that time runs.
            let is_same = then
                .next()
                .is_some_and(|then| machine(&space).as_deref() == Some(then));
            return is_same.then_some(false);
        }
        if number != space_then {
            // In a container, or outside of this one: its numbers mean nothing here.
            return None;
        }
        let now = birth(pid);
        return Some(now.is_some_and(|now| now.split(':').nth(2) == Some(ticks)));
    }
    // A `ps` that fails says that there is no such process, unless there is no `ps`.
    output("ps", &["-p", &std::process::id().to_string()])?;
    Some(birth(pid).is_some_and(|now| now == birth_then))
}

/// A process as the system lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The number of its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session; the group again where the system does not tell.
    pub session: u32,
    /// It has ended, and waits for its parent to ask how.
    pub is_zombie: bool,
}

/// Every process that can be seen from here. Empty where the system does not tell.
pub fn list() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return list_by_ps();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended in the meantime is not there any more, which is what is asked.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
            found.extend(parse_stat(pid, &stat));
        }
    }
    if found.is_empty() {
        return list_by_ps();
    }
    found
}

/// The third to sixth field: state, parent, group, session.
fn parse_stat(pid: u32, stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse().ok();
    Some(Process {
        pid,
        parent: number()?,
        group: number()?,
        session: number()?,
        is_zombie: matches!(state, "Z" | "X"),
    })
}

fn list_by_ps() -> Vec<Process> {
    let text = output("ps", &["-A", "-o", "pid=,ppid=,pgid=,stat="]).unwrap_or_default();
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let mut number = || fields.next()?.parse().ok();
        let (pid, parent, group) = (number()?, number()?, number()?);
        Some(Process {
            pid,
            parent,
            group,
            session: group,
            is_zombie: fields.next()?.starts_with('Z'),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// The children of this process.
pub fn own_children() -> Vec<u32> {
    let own = std::process::id();
    // One file where the kernel has it, instead of one for each process of the system.
    match fs::read_to_string(format!("/proc/{own}/task/{own}/children")) {
        Ok(text) => {
            let numbers = text.split_ascii_whitespace();
            numbers.filter_map(|number| number.parse().ok()).collect()
        }
        Err(_) => {
            let list = list();
            let children = list.iter().filter(|process| process.parent == own);
            children.map(|process| process.pid).collect()
        }
    }
}

/// The processes of a list that descend from `root`, and those that descend from one of them.
pub fn descendants(list: &[Process], root: u32) -> Vec<&Process> {
    let mut ancestors = vec![root];
    let mut found: Vec<&Process> = Vec::new();
    // Each round finds one generation.
    loop {
        let next: Vec<&Process> = list
            .iter()
            .filter(|process| ancestors.contains(&process.parent) && process.pid != root)
            .filter(|process| !found.contains(process))
            .collect();
        if next.is_empty() {
            return found;
        }
        ancestors = next.iter().map(|process| process.pid).collect();
        found.extend(next);
    }
}

/// `BOOT:SPACE`; `None` where there is no such `/proc`.
fn space() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = fs::read_link("/proc/self/ns/pid").ok()?;
    let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    Some(format!(
        "{}:{}",
        boot.trim(),
        digits(&space.to_string_lossy())
    ))
}

/// A short name of this machine that outlives a restart. `None` in a container: an image may give the same one to many.
fn machine(space: &str) -> Option<String> {
    let (_, number) = space.split_once(':')?;
    let id = fs::read_to_string("/etc/machine-id").ok()?;
    // systemd asks that the id itself be kept from others.
    let name = format!("omk {}", id.trim());
    (number == FIRST_SPACE && !id.trim().is_empty())
        .then(|| format!("{:08x}", crc32c(name.as_bytes())))
}

/// A short name for this run of this system, or of this container: two processes with the same one see each other.
pub(crate) fn system() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let space = space().unwrap_or_else(host_name);
        format!("{:08x}", crc32c(space.as_bytes()))
    })
}

/// The 22nd field, unless the third says that the process has ended and only waits to be asked how. The second one is the program's name in brackets, which may hold blanks and brackets itself.
fn start_ticks(stat: &str) -> Option<&str> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    fields.nth(18).filter(|_| !matches!(state, "Z" | "X"))
}

fn started_by_ps(pid: u32) -> Option<String> {
    let text = output("ps", &["-o", "lstart=", "-p", &pid.to_string()])?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What a program prints; `None` unless it succeeds.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        // Dates in one language.
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_that_was_waited_for_does_not() {
        let own = std::process::id();
        let birth_of_own = birth(own).unwrap();
        if birth_of_own.is_empty() {
            println!("this system does not tell when a process began");
            return;
        }
        assert_eq!(is_alive(own, &birth_of_own), Some(true));
        // One that began ten times as late.
        let mut parts: Vec<&str> = birth_of_own.splitn(4, ':').collect();
        let ticks = format!("{}0", parts.get(2).copied().unwrap_or_default());
        match parts.get_mut(2) {
            Some(part) => *part = &ticks,
            None => parts.push("0"),
        }
        assert_eq!(is_alive(own, &parts.join(":")), Some(false));
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let birth_of_child = birth(child.id()).unwrap();
        assert_eq!(is_alive(child.id(), &birth_of_child), Some(true));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(is_alive(child.id(), &birth_of_child), Some(false));
        assert_eq!(is_alive(own, ""), None);
        assert!(!host_name().is_empty());
    }

    #[test]
    fn a_program_may_have_an_odd_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(start_ticks(stat), Some("4242"));
        assert_eq!(start_ticks(&stat.replace(" S ", " Z ")), None);
        assert_eq!(start_ticks("7 (a"), None);
    }

    #[test]
    fn descendants_are_found_in_every_generation_and_no_one_else() {
        let process = |pid, parent| Process {
            pid,
            parent,
            group: pid,
            session: pid,
            is_zombie: false,
        };
        // 1 is its own parent in some lists.
        let list = [
            process(1, 1),
            process(9, 7),
            process(7, 5),
            process(5, 1),
            process(6, 1),
        ];
        let of = |root| -> Vec<u32> {
            descendants(&list, root)
                .iter()
                .map(|process| process.pid)
                .collect()
        };
        assert_eq!(of(5), [7, 9]);
        assert!(of(9).is_empty());
        assert_eq!(of(1), [5, 6, 7, 9]);
    }

    #[test]
    fn a_child_is_listed_below_this_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let own = std::process::id();
        let list = list();
        let found = descendants(&list, own);
        assert!(
            found
                .iter()
                .any(|process| process.pid == child.id() && process.parent == own)
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_cannot_be_seen_is_neither_alive_nor_dead() {
        let Some(space) = space() else {
            return;
        };
        let boot = space.split(':').next().unwrap();
        assert_eq!(is_alive(1, &format!("{boot}:1:5")), None);
        assert_eq!(is_alive(1, "nonsense"), None);
    }

    #[test]
    fn another_boot_is_another_machine_unless_the_machine_is_known() {
        let Some(space) = space() else {
            return;
        };
        // As omk 0.6.0 wrote it, and as another machine of the same name does.
        assert_eq!(is_alive(1, "another-boot:1:5"), None);
        assert_eq!(is_alive(1, "another-boot:1:5:0123abcd"), None);
        let Some(machine) = machine(&space) else {
            eprintln!("NOT TESTED on this system: a restart of a known machine");
            return;
        };
        assert_eq!(
            is_alive(1, &format!("another-boot:1:5:{machine}")),
            Some(false)
        );
        // The machine's name does not tell two processes apart.
        let own = birth(std::process::id()).unwrap();
        let (without, _) = own.rsplit_once(':').unwrap();
        assert_eq!(is_alive(std::process::id(), without), Some(true));
        assert_eq!(machine.len(), 8);
    }
}
