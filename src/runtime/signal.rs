//! Signals, and the few system calls that the standard library lacks: the only file with `unsafe` code.
//!
//! A run that is interrupted has to tell the agent, learn what the turn used, write the ledger and end the agent's
//! processes. So SIGINT, SIGTERM and SIGHUP only set a flag and wake whoever waits; [`pending`] is asked in every loop that
//! waits. A second SIGINT or SIGTERM ends the process at once, and [`BOUND`] seconds after the first signal the process ends
//! whatever it is doing.
//!
//! # Safety
//!
//! The declarations below match `signal(2)`, `poll(2)` and the others on Linux and macOS: every argument is an integer or a
//! pointer to a local value that outlives the call, and the system keeps none of the pointers. The signal handlers call only
//! functions that POSIX lists as safe there (`write`, `alarm`, `kill`, `_exit`) and touch only atomics; they neither
//! allocate nor lock.

use std::time::Duration;

/// Seconds after the first signal when the process ends even if it is stuck, such as in the system's look-up of a host name.
pub const BOUND: u32 = 5;

/// A signal that this program sends or receives. The discriminant is its number, the same on every supported system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Signal {
    /// The terminal is gone.
    HangUp = 1,
    /// Ctrl-C.
    Interrupt = 2,
    /// Ends a process without asking it.
    Kill = 9,
    /// Asks a process to end.
    Terminate = 15,
}

impl Signal {
    /// The exit code of a process that this signal ended, as shells report it.
    pub fn exit_code(self) -> u8 {
        match self {
            Signal::HangUp => 129,
            Signal::Interrupt => 130,
            Signal::Kill => 137,
            Signal::Terminate => 143,
        }
    }

    /// Its name, such as `SIGINT`.
    pub fn name(self) -> &'static str {
        match self {
            Signal::HangUp => "SIGHUP",
            Signal::Interrupt => "SIGINT",
            Signal::Kill => "SIGKILL",
            Signal::Terminate => "SIGTERM",
        }
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There is something to read, or the other end is closed.
    Ready,
    /// The time is over.
    TimedOut,
    /// A signal came that nobody has acknowledged.
    Caught,
}

#[cfg(unix)]
pub use unix::*;

#[cfg(not(unix))]
pub use elsewhere::*;

#[cfg(unix)]
mod unix {
    use super::Signal;
    use super::Wake;

    use std::ffi::c_int;
    use std::ffi::c_short;
    use std::ffi::c_uint;
    use std::ffi::c_void;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::fd::BorrowedFd;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::AtomicI32;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;
    use std::time::Instant;

    /// The signal that came first, or 0.
    static CAUGHT: AtomicI32 = AtomicI32::new(0);
    /// Whoever ends the run has noticed it; further waits are not cut short.
    static ACKNOWLEDGED: AtomicBool = AtomicBool::new(false);
    /// The end of the self-pipe that the handler writes to, and the end that waits look at.
    static WAKE_WRITE: AtomicI32 = AtomicI32::new(-1);
    static WAKE_READ: AtomicI32 = AtomicI32::new(-1);
    /// The process group that a second signal kills, or 0.
    static GROUP: AtomicI32 = AtomicI32::new(0);
    /// Orphans of our descendants become our children.
    static ADOPTS: AtomicBool = AtomicBool::new(false);

    const SIG_ERR: usize = usize::MAX;
    const SIG_IGN: usize = 1;
    const SIGALRM: c_int = 14;
    const POLLIN: c_short = 1;
    const POLLERR: c_short = 8;
    const POLLHUP: c_short = 16;
    const WNOHANG: c_int = 1;
    /// The longest that one `poll` is asked to wait; longer waits ask again.
    const LONGEST_POLL: Duration = Duration::from_secs(1000);

    /// `struct pollfd`, the same on every supported system.
    #[repr(C)]
    struct PollFd {
        fd: c_int,
        events: c_short,
        revents: c_short,
    }

    #[cfg(target_os = "macos")]
    type PollCount = c_uint;
    #[cfg(not(target_os = "macos"))]
    type PollCount = std::ffi::c_ulong;

    unsafe extern "C" {
        fn signal(number: c_int, handler: usize) -> usize;
        fn siginterrupt(number: c_int, interrupts: c_int) -> c_int;
        fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize;
        fn alarm(seconds: c_uint) -> c_uint;
        fn kill(pid: c_int, number: c_int) -> c_int;
        fn _exit(status: c_int) -> !;
        fn poll(fds: *mut PollFd, count: PollCount, timeout_ms: c_int) -> c_int;
        fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
        #[cfg(target_os = "linux")]
        fn prctl(option: c_int, ...) -> c_int;
    }

    /// Notes the first signal; ends the process on the second.
    extern "C" fn on_signal(number: c_int) {
        if CAUGHT.compare_exchange(0, number, SeqCst, SeqCst).is_err() {
            // A terminal that goes away sends SIGHUP from the kernel and from the shell: one event, two signals.
            if number != Signal::HangUp as c_int {
                end(number);
            }
            return;
        }
        let byte = 1_u8;
        // SAFETY: `write` and `alarm` are async-signal-safe; the pointer is to a local byte. The pipe is empty, since only
        // the first signal gets here, so the write neither blocks nor changes errno. `alarm` sets no errno.
        unsafe {
            write(WAKE_WRITE.load(SeqCst), (&raw const byte).cast(), 1);
            alarm(super::BOUND);
        }
    }

    /// The time after the first signal is over.
    extern "C" fn on_alarm(_: c_int) {
        end(CAUGHT.load(SeqCst));
    }

    /// Ends the process from within a handler, and the agent's group before it.
    fn end(number: c_int) -> ! {
        let group = GROUP.load(SeqCst);
        // SAFETY: `kill` and `_exit` are async-signal-safe and take integers. The group is a child's that has not been
        // waited for, so its number belongs to nobody else.
        unsafe {
            if group > 1 {
                kill(-group, Signal::Kill as c_int);
            }
            _exit(128 + number)
        }
    }

    /// Takes SIGINT, SIGTERM and SIGHUP from now on, and lets orphans become our children where the system can. A signal
    /// that is ignored, as `nohup` does with SIGHUP, stays ignored. Only for a program that owns its process.
    ///
    /// # Errors
    ///
    /// The system refuses a pipe or a handler.
    pub fn watch() -> io::Result<()> {
        if WAKE_WRITE.load(SeqCst) >= 0 {
            return Ok(());
        }
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        // Never closed: a handler may use it until the process ends.
        WAKE_READ.store(read.into_raw_fd(), SeqCst);
        WAKE_WRITE.store(write.into_raw_fd(), SeqCst);
        let alarm_handler: extern "C" fn(c_int) = on_alarm;
        let handler: extern "C" fn(c_int) = on_signal;
        install(SIGALRM, alarm_handler as usize)?;
        for wanted in [Signal::HangUp, Signal::Interrupt, Signal::Terminate] {
            install(wanted as c_int, handler as usize)?;
        }
        ADOPTS.store(adopt(), SeqCst);
        Ok(())
    }

    /// Installs a handler unless the signal is ignored.
    fn install(number: c_int, handler: usize) -> io::Result<()> {
        // SAFETY: `signal` takes a number and the address of a function of the type that it expects, or a constant that it
        // returned itself. The handlers are safe to run at any moment, see above. `siginterrupt` takes integers.
        unsafe {
            let before = signal(number, handler);
            if before == SIG_ERR {
                return Err(io::Error::last_os_error());
            }
            if before == SIG_IGN {
                signal(number, SIG_IGN);
            }
            // Otherwise the system would restart the reads that the signal is to end.
            siginterrupt(number, 1);
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn adopt() -> bool {
        const PR_SET_CHILD_SUBREAPER: c_int = 36;
        // SAFETY: this option takes one integer and changes a flag of our own process.
        unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1_usize, 0_usize, 0_usize, 0_usize) == 0 }
    }

    #[cfg(not(target_os = "linux"))]
    fn adopt() -> bool {
        false
    }

    /// Whether orphans of our descendants become our children.
    pub fn adopts_orphans() -> bool {
        ADOPTS.load(SeqCst)
    }

    /// The signal that came, acknowledged or not.
    pub fn caught() -> Option<Signal> {
        match CAUGHT.load(SeqCst) {
            1 => Some(Signal::HangUp),
            2 => Some(Signal::Interrupt),
            15 => Some(Signal::Terminate),
            _ => None,
        }
    }

    /// The signal that came and that nobody has acknowledged.
    pub fn pending() -> Option<Signal> {
        caught().filter(|_| !ACKNOWLEDGED.load(SeqCst))
    }

    /// Notes that the run is being ended because of the signal: from now on waits take their time again.
    pub fn acknowledge() {
        ACKNOWLEDGED.store(true, SeqCst);
    }

    /// Names the process group that a second signal kills; `None` when it is gone.
    pub fn guard_group(group: Option<u32>) {
        let group = group.and_then(|group| i32::try_from(group).ok());
        GROUP.store(group.unwrap_or(0), SeqCst);
    }

    /// Waits until there is something to read, a signal comes or the time is over. Without anything to read from, it waits
    /// for the other two.
    pub fn wait(source: Option<BorrowedFd<'_>>, timeout: Duration) -> Wake {
        wait_any(source.as_slice(), timeout).0
    }

    /// The same for several sources: also says which of them are ready, by their places.
    pub fn wait_any(sources: &[BorrowedFd<'_>], timeout: Duration) -> (Wake, Vec<usize>) {
        let started = Instant::now();
        loop {
            if pending().is_some() {
                return (Wake::Caught, Vec::new());
            }
            let left = timeout.saturating_sub(started.elapsed());
            // Rounded up, so that the last fraction of a millisecond is not spent in a loop.
            let milliseconds = left.min(LONGEST_POLL).as_micros().div_ceil(1000);
            let unused = -1;
            let acknowledged = ACKNOWLEDGED.load(SeqCst);
            let wake = match acknowledged {
                true => unused,
                false => WAKE_READ.load(SeqCst),
            };
            let wanted = sources.iter().map(|source| source.as_raw_fd());
            let mut fds: Vec<PollFd> = std::iter::once(wake)
                .chain(wanted)
                .map(|fd| PollFd {
                    fd,
                    events: POLLIN,
                    revents: 0,
                })
                .collect();
            let length = PollCount::try_from(fds.len()).unwrap_or(1);
            // SAFETY: the pointer is to the elements of the vector, and the count is at most their number; `poll` ignores
            // negative descriptors.
            let count = unsafe {
                poll(
                    fds.as_mut_ptr(),
                    length,
                    c_int::try_from(milliseconds).unwrap_or(c_int::MAX),
                )
            };
            let is_set = |fd: &PollFd| fd.revents != 0;
            if fds.first().is_some_and(is_set) && pending().is_some() {
                return (Wake::Caught, Vec::new());
            }
            // An error that is not an interruption would be found by the read that follows.
            let interrupted =
                count < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
            let failed = count < 0 && !interrupted;
            let places = fds.iter().skip(1).enumerate();
            let ready: Vec<usize> = places
                .filter(|(_, fd)| failed || is_set(fd))
                .map(|(place, _)| place)
                .collect();
            if !ready.is_empty() || failed {
                return (Wake::Ready, ready);
            }
            if started.elapsed() >= timeout {
                return (Wake::TimedOut, ready);
            }
        }
    }

    /// Whether the other end of a pipe, socket or terminal is closed, so that nothing written here is ever read.
    pub fn is_hung_up(sink: BorrowedFd<'_>) -> bool {
        let mut fd = PollFd {
            fd: sink.as_raw_fd(),
            events: 0,
            revents: 0,
        };
        // SAFETY: the pointer is to one local value, which is what the count says; without a wait the call cannot block.
        let count = unsafe { poll(&raw mut fd, 1, 0) };
        count > 0 && fd.revents & (POLLERR | POLLHUP) != 0
    }

    /// Sends a signal to a process. Says whether there was one to get it.
    pub fn send(pid: u32, what: Signal) -> bool {
        // Numbers below 2 mean something else to the system: our own group, and the process that starts all others.
        let pid = c_int::try_from(pid).ok().filter(|pid| *pid > 1);
        // SAFETY: `kill` takes integers.
        pid.is_some_and(|pid| unsafe { kill(pid, what as c_int) == 0 })
    }

    /// Sends a signal to every process of a group. Says whether there was one to get it.
    pub fn send_group(group: u32, what: Signal) -> bool {
        let group = c_int::try_from(group).ok().filter(|group| *group > 1);
        // SAFETY: `kill` takes integers.
        group.is_some_and(|group| unsafe { kill(-group, what as c_int) == 0 })
    }

    /// Collects the exit of a child that was adopted, so that no zombie remains. Not for a child that std waits for.
    pub fn reap(pid: u32) {
        let Ok(pid) = c_int::try_from(pid) else {
            return;
        };
        let mut status = 0;
        // SAFETY: the pointer is to a local integer. For a process that is not our child the call fails and does nothing.
        unsafe {
            waitpid(pid, &raw mut status, WNOHANG);
        }
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use super::Signal;

    use std::io;
    use std::time::Duration;

    /// Does nothing: this system has no such signals.
    ///
    /// # Errors
    ///
    /// None.
    pub fn watch() -> io::Result<()> {
        Ok(())
    }

    /// Never.
    pub fn adopts_orphans() -> bool {
        false
    }

    /// Never.
    pub fn caught() -> Option<Signal> {
        None
    }

    /// Never.
    pub fn pending() -> Option<Signal> {
        None
    }

    /// Does nothing.
    pub fn acknowledge() {}

    pub(super) fn wait_for_nothing(timeout: Duration) {
        std::thread::sleep(timeout);
    }
}

/// Waits, unless a signal comes.
pub fn sleep(duration: Duration) {
    #[cfg(unix)]
    wait(None, duration);
    #[cfg(not(unix))]
    elsewhere::wait_for_nothing(duration);
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_wait_ends_when_there_is_something_to_read_or_the_time_is_over() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let short = Duration::from_millis(1);
        assert_eq!(wait(Some(ours.as_fd()), short), Wake::TimedOut);
        assert_eq!(wait(None, short), Wake::TimedOut);
        theirs.write_all(b"x").unwrap();
        let long = Duration::from_secs(600);
        assert_eq!(wait(Some(ours.as_fd()), long), Wake::Ready);
        // The end of a stream is something to read too.
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(wait(Some(ours.as_fd()), long), Wake::Ready);
    }

    #[test]
    fn a_wait_for_several_says_which_are_ready() {
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let sources: Vec<_> = pairs.iter().map(|(ours, _)| ours.as_fd()).collect();
        let short = Duration::from_millis(1);
        assert_eq!(wait_any(&sources, short), (Wake::TimedOut, vec![]));
        (&pairs[2].1).write_all(b"x").unwrap();
        (&pairs[0].1).write_all(b"x").unwrap();
        let long = Duration::from_secs(600);
        assert_eq!(wait_any(&sources, long), (Wake::Ready, vec![0, 2]));
    }

    #[test]
    fn a_pipe_without_a_reader_is_hung_up() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(!is_hung_up(writer.as_fd()));
        drop(reader);
        assert!(is_hung_up(writer.as_fd()));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_hung_up(file.as_fd()));
    }

    #[test]
    fn numbers_that_mean_more_than_one_process_are_refused() {
        for number in [0, 1, u32::MAX] {
            assert!(!send(number, Signal::Kill) && !send_group(number, Signal::Kill));
        }
    }

    #[test]
    fn a_signal_reaches_a_process_and_is_its_end() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        assert!(send(child.id(), Signal::Kill));
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(Signal::Kill as i32)
        );
        assert!(!send(child.id(), Signal::Kill));
    }
}
