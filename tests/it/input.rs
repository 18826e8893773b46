//! Standard input and files on the built program: pipes, silence, sizes, and everything that is not
//! text.

use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::sandbox::Sandbox;

#[test]
fn every_bad_file_is_named_and_the_good_ones_are_processed() {
    let sandbox = Sandbox::new("every_bad_file_is_named_and_the_good_ones_are_processed");
    sandbox.file("good", "good").file("bad", b"a\0");
    std::fs::create_dir(sandbox.path("work/directory")).unwrap();
    let outcome = sandbox.omk("estimate gone good directory bad").run();
    outcome.code(66).stdout_contains("kimi-k3     1 ").stderr(
        "omk: input: `gone` does not exist\n\
         omk: input: `bad` has a NUL at offset 1; services refuse it\nhint: --lossy replaces bad bytes by U+FFFD\n",
    );
    sandbox.omk("estimate --lossy bad").run().code(0).stderr("");
}

#[test]
fn empty_input_is_fine() {
    let sandbox = Sandbox::new("empty_input_is_fine");
    sandbox.file("empty", "");
    sandbox.omk("estimate empty").run().code(0).stderr("");
    sandbox.omk("estimate").run().code(0).stderr("");
    sandbox.omk("estimate -").stdin("").run().code(0).stderr("");
}

#[test]
fn large_input_passes_through_a_pipe() {
    let sandbox = Sandbox::new("large_input_passes_through_a_pipe");
    let text = "漢字 and é\r\n".repeat(400_000);
    let line = "estimate --json --vocabulary kimi -m kimi-without-a-window --quiet";
    let outcome = sandbox.omk(line).stdin(text.clone()).run();
    let document = outcome.code(0).json();
    outcome.check(
        document["models"][0]["inputs"][0]["bytes"] == text.len(),
        "every byte is counted",
    );
}

#[test]
fn a_bad_byte_far_into_a_pipe_is_named() {
    let sandbox = Sandbox::new("a_bad_byte_far_into_a_pipe_is_named");
    let mut bytes = vec![b'x'; 1_000_000];
    bytes.push(0xff);
    let stderr = "omk: input: standard input: byte 0xff at offset 1000000 is not UTF-8\n\
                  hint: --lossy replaces bad bytes by U+FFFD\n";
    sandbox
        .omk("estimate")
        .stdin(bytes)
        .run()
        .code(65)
        .stderr(stderr);
}

#[test]
fn what_is_there_at_once_is_read_at_once() {
    let sandbox = Sandbox::new("what_is_there_at_once_is_read_at_once");
    sandbox.file("text", "text");
    let fastest = |run: &dyn Fn() -> Duration| (0..20).map(|_| run()).min().unwrap();
    let file = fastest(&|| sandbox.omk("estimate text").run().took);
    let pipe = fastest(&|| sandbox.omk("estimate").stdin("text").run().took);
    // The reader's longest pause is 10 ms; of twenty runs one has found the text in the pipe.
    assert!(
        pipe < file + Duration::from_millis(10),
        "pipe {pipe:?}, file {file:?}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_silent_pipe_is_mentioned_once_and_still_read() {
    let sandbox = Sandbox::new("a_silent_pipe_is_mentioned_once_and_still_read");
    // All at once, since each takes as long as the silence.
    let runs: Vec<_> = ["estimate", "estimate --deadline 60s", "estimate --quiet"]
        .into_iter()
        .map(|line| {
            let mut child = sandbox.omk(line).stdin_from(Stdio::piped()).spawn();
            let mut pipe = child.stdin.take().unwrap();
            let writer = thread::spawn(move || {
                let (first, second) = "é".as_bytes().split_at(1);
                thread::sleep(Duration::from_millis(2300));
                pipe.write_all(first).unwrap();
                thread::sleep(Duration::from_millis(50));
                pipe.write_all(second).unwrap();
            });
            (line, child, writer)
        })
        .collect();
    for (line, child, writer) in runs {
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let note = "omk: waiting for input on stdin (end it with ctrl-D, or give a FILE)\n";
        let note = if line.ends_with("--quiet") { "" } else { note };
        assert_eq!(String::from_utf8_lossy(&output.stderr), note, "{line}");
        assert_eq!(output.status.code(), Some(0), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_deadline_covers_a_pipe_that_falls_silent() {
    let sandbox = Sandbox::new("the_deadline_covers_a_pipe_that_falls_silent");
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"some text").unwrap();
    let started = Instant::now();
    let outcome = sandbox
        .omk("estimate --deadline 300ms")
        .stdin_from(reader.into())
        .run();
    outcome
        .code(124)
        .stdout("")
        .stderr_contains("omk: deadline: 300ms ran out while waiting for input on stdin\n");
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(started.elapsed() < Duration::from_secs(20));
    drop(writer);
}

#[cfg(target_os = "linux")]
#[test]
fn whoever_shares_the_pipe_notices_nothing() {
    let sandbox = Sandbox::new("whoever_shares_the_pipe_notices_nothing");
    // `cat` reads the same pipe afterwards; had it become non-blocking, `cat` would fail.
    let script = "(sleep 0.2; printf text) | { omk estimate --deadline 50ms; cat; }";
    let outcome = sandbox.command("sh", ["-c", script]).run();
    outcome
        .code(0)
        .stdout("text")
        .stderr_contains("omk: deadline: ");
}
