//! The workers of a batch: child processes with one thread each, fed and read over pipes.
//!
//! | to a worker, a line each | means |
//! |---|---|
//! | a JSON object | ask this |
//! | `go` | make the next attempt |
//!
//! | from a worker | means |
//! |---|---|
//! | `r` | ready for a prompt |
//! | `w` and a [`Notice`] | an attempt failed, and the next one waits for `go` |
//! | `o` and an [`Outcome`], then its document | done |
//!
//! A worker whose pipe ends has lost its parent: it finishes what it is at and leaves the outcome in the rescue file.

use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::batch::journal::Outcome;
use crate::runtime::signal;
use crate::runtime::signal::Signal;
use crate::runtime::signal::Wake;

/// Bytes read from a pipe at a time: what Linux keeps in one.
const PIECE: usize = 64 * 1024;

/// An attempt that failed, with another to come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Notice {
    /// The error's kind.
    pub kind: String,
    /// The service asks everyone to slow down.
    pub slows: bool,
    /// How long it asks to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// How long this prompt is to wait at least, in milliseconds.
    pub wait_ms: u64,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It waits for a prompt.
    Ready,
    /// It waits to make another attempt.
    Waiting(Notice),
    /// It is done, and this is the document of the result.
    Done(Outcome, Vec<u8>),
    /// It is gone.
    Gone,
}

impl Message {
    /// The message as it goes over the pipe. [`Message::Gone`] is none.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Structs of texts and numbers: there is nothing that could fail.
        match self {
            Message::Ready => bytes.push(b'r'),
            Message::Waiting(notice) => {
                bytes.push(b'w');
                let _ = serde_json::to_writer(&mut bytes, notice);
            }
            Message::Done(outcome, document) => {
                bytes.push(b'o');
                bytes.extend(crate::batch::journal::frame(outcome.clone(), document));
                return bytes;
            }
            Message::Gone => return bytes,
        }
        bytes.push(b'\n');
        bytes
    }

    /// The first message of some bytes, and its length; `None` as long as it is not complete.
    ///
    /// # Errors
    ///
    /// They are no message.
    pub fn decode(bytes: &[u8]) -> io::Result<Option<(Message, usize)>> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let (first, rest) = match bytes.get(..end).and_then(<[u8]>::split_first) {
            Some(line) => line,
            None => return Err(io::ErrorKind::InvalidData.into()),
        };
        let after = end.saturating_add(1);
        Ok(match first {
            b'r' => Some((Message::Ready, after)),
            b'w' => Some((Message::Waiting(serde_json::from_slice(rest)?), after)),
            b'o' => {
                let outcome: Outcome = serde_json::from_slice(rest)?;
                let until = after.saturating_add(outcome.length);
                match bytes.get(until) {
                    Some(b'\n') => {
                        let document = bytes.get(after..until).unwrap_or_default().to_vec();
                        Some((Message::Done(outcome, document), until.saturating_add(1)))
                    }
                    Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                    None => None,
                }
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

/// A worker.
struct Worker {
    child: Child,
    /// Closed to tell it that there is nothing more.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    buffer: Vec<u8>,
}

/// The workers of a batch, by their places; a place may be empty.
#[derive(Default)]
pub struct Pool {
    workers: Vec<Option<Worker>>,
}

impl Pool {
    /// Starts a worker and returns its place. It gets a process group of its own: Ctrl-C is for the parent, which tells it.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn start(&mut self, mut command: Command) -> io::Result<usize> {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let worker = Worker {
            child,
            stdin,
            stdout: stdout.ok_or(io::ErrorKind::BrokenPipe)?,
            buffer: Vec::new(),
        };
        let place = self.workers.iter().position(Option::is_none);
        let place = place.unwrap_or(self.workers.len());
        match self.workers.get_mut(place) {
            Some(free) => *free = Some(worker),
            None => self.workers.push(Some(worker)),
        }
        Ok(place)
    }

    /// Writes a line to a worker. One that is gone is found so by the next wait.
    pub fn tell(&mut self, place: usize, line: &[u8]) {
        let worker = self.workers.get_mut(place).and_then(Option::as_mut);
        if let Some(stdin) = worker.and_then(|worker| worker.stdin.as_mut()) {
            let _ = stdin.write_all(line).and_then(|()| stdin.write_all(b"\n"));
        }
    }

    /// Tells a worker that there is nothing more for it: one that waits gives up.
    pub fn dismiss(&mut self, place: usize) {
        if let Some(worker) = self.workers.get_mut(place).and_then(Option::as_mut) {
            worker.stdin = None;
        }
    }

    /// Sends a signal to every worker.
    pub fn signal(&self, what: Signal) {
        for worker in self.workers.iter().flatten() {
            signal::send(worker.child.id(), what);
        }
    }

    /// The numbers of the processes.
    pub fn processes(&self) -> Vec<u32> {
        let workers = self.workers.iter().flatten();
        workers.map(|worker| worker.child.id()).collect()
    }

    /// Waits until a worker says something, a signal comes or the time is over, and hands over what was said.
    pub fn wait(&mut self, timeout: Duration) -> (Wake, Vec<(usize, Message)>) {
        let places = self.workers.iter().enumerate();
        let present: Vec<(usize, BorrowedFd<'_>)> = places
            .filter_map(|(place, worker)| Some((place, worker.as_ref()?.stdout.as_fd())))
            .collect();
        let sources: Vec<BorrowedFd<'_>> = present.iter().map(|(_, fd)| *fd).collect();
        let places: Vec<usize> = present.iter().map(|(place, _)| *place).collect();
        let (wake, ready) = signal::wait_any(&sources, timeout);
        let mut said = Vec::new();
        for place in ready.into_iter().filter_map(|ready| places.get(ready)) {
            self.read(*place, &mut said);
        }
        (wake, said)
    }

    /// Reads what there is, once: a pipe that is ready does not keep anyone waiting.
    fn read(&mut self, place: usize, said: &mut Vec<(usize, Message)>) {
        let Some(slot) = self.workers.get_mut(place) else {
            return;
        };
        let Some(worker) = slot else {
            return;
        };
        let mut piece = vec![0; PIECE];
        let length = worker.stdout.read(&mut piece).unwrap_or(0);
        let bytes = piece.get(..length).unwrap_or_default();
        worker.buffer.extend_from_slice(bytes);
        let mut from = 0;
        let mut is_gone = length == 0;
        loop {
            match Message::decode(worker.buffer.get(from..).unwrap_or_default()) {
                Ok(Some((message, length))) => {
                    said.push((place, message));
                    from += length;
                }
                Ok(None) => break,
                Err(_) => {
                    // It is no worker of ours, or not in its right mind.
                    is_gone = true;
                    break;
                }
            }
        }
        worker.buffer.drain(..from);
        if is_gone {
            worker.stdin = None;
            let _ = worker.child.kill();
            let _ = worker.child.wait();
            *slot = None;
            said.push((place, Message::Gone));
        }
    }
}

impl Drop for Pool {
    /// Closes every pipe and waits for the workers, which then end by themselves.
    fn drop(&mut self) {
        for worker in self.workers.iter_mut().flatten() {
            worker.stdin = None;
        }
        for worker in self.workers.iter_mut().flatten() {
            let _ = worker.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let outcome = Outcome {
            id: "a".to_string(),
            length: 4,
            ..Outcome::default()
        };
        let messages = [
            Message::Ready,
            Message::Waiting(Notice::default()),
            Message::Done(outcome, b"a\n\nb".to_vec()),
        ];
        let bytes: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
        for cut in 0..=bytes.len() {
            let (mut found, mut from) = (Vec::new(), 0);
            for until in [cut, bytes.len()] {
                while let Some((message, length)) = Message::decode(&bytes[from..until]).unwrap() {
                    found.push(message);
                    from += length;
                }
            }
            assert_eq!(found, messages, "{cut}");
        }
        for wrong in ["\n", "x\n", "o{}\n", "w{\n"] {
            assert!(Message::decode(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_worker_is_heard_and_its_end_is_noticed() {
        let mut pool = Pool::default();
        let mut command = Command::new("sh");
        command.args(["-c", "echo r; read line; echo \"$line\""]);
        let place = pool.start(command).unwrap();
        let long = Duration::from_secs(60);
        assert_eq!(pool.wait(long).1, [(place, Message::Ready)]);
        pool.tell(place, b"r");
        let mut said = Vec::new();
        while said.last() != Some(&(place, Message::Gone)) {
            said.extend(pool.wait(long).1);
        }
        assert_eq!(said, [(place, Message::Ready), (place, Message::Gone)]);
        assert!(pool.processes().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(Some((_, length))) = Message::decode(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
