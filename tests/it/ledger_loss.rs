//! A ledger that cannot be written, as a user meets it.
//!
//! The answer is printed all the same, the loss is said with what mends it, and the exit code is 74. Where a budget holds, a
//! run that nobody can count is refused instead, and nothing is sent. Permissions do not stop root, so tests of them go on
//! as nobody then; what cannot be made to fail on this system is said aloud on standard error and not held.

use std::path::Path;

use crate::result::document;
use crate::sandbox::{Outcome, Run, Sandbox};
use crate::service::{Answer, Service};

const FLAGS: &str = "prompt --no-stdin -m kimi-k2.6 --max-output-tokens 100 --base-url";

fn service() -> Service {
    Service::new(|_| Answer::text(["The ans", "wer.\n"]))
}

/// Holds a way to run omk with a ledger that cannot be written. `words` are of the message, the last one of its hint.
#[track_caller]
fn lost(words: &[&str], omk: impl Fn(&Service) -> Run) {
    let service = service();
    let ask = |flags: &[&str]| {
        let mut run = omk(&service).env("MOONSHOT_API_KEY", "sk-test");
        for flag in flags {
            run = run.arg(*flag);
        }
        run.arg("Why?")
    };
    let said = |outcome: &Outcome, first: &str| {
        outcome.stderr_contains(first);
        for word in words {
            outcome.stderr_contains(word);
        }
    };
    let outcome = ask(&[]).run();
    outcome.code(74).stdout("The answer.\n");
    said(&outcome, "omk: ledger: the run ");
    let outcome = ask(&["--json"]).run();
    outcome.code(74);
    said(&outcome, "omk: ledger: the run ");
    let result = document(&outcome);
    outcome.check(result["text"] == "The answer.\n", "the answer");
    outcome.check(result["exit"] == 74, "exit 74 in the result");
    outcome.check(result["error"]["kind"] == "ledger", "the error's kind");
    outcome.check(result["usage"].is_object(), "what it used");
    assert_eq!(service.calls().len(), 2);

    let refused = ask(&[]).env("OMK_BUDGET", "5/day").run();
    refused.code(74).stdout("");
    said(&refused, "OMK_BUDGET cannot be kept without a ledger: ");
    let refused = ask(&["--json"]).env("OMK_BUDGET", "5/day").run();
    let result = document(&refused);
    refused.check(result["cost"]["charged"] == "no", "charged: no");
    // A budget that is not meant for this run does not stop it.
    let other = ask(&[]).env("OMK_BUDGET", "tag:ci=5/day").run();
    other.code(74).stdout("The answer.\n");
    assert_eq!(service.calls().len(), 3);
}

fn prompt(sandbox: &Sandbox, service: &Service) -> Run {
    sandbox.omk(FLAGS).arg(service.url())
}

fn skipped(what: &str) {
    eprintln!("NOT TESTED on this system: {what}");
}

#[test]
fn a_ledger_that_is_a_file_is_a_loss() {
    let sandbox = Sandbox::new("a_ledger_that_is_a_file_is_a_loss");
    sandbox.file("file", "mine");
    for place in ["file", "file/below"] {
        let place = sandbox.path("work").join(place);
        lost(&["move it, or set OMK_LEDGER"], |service| {
            prompt(&sandbox, service).env("OMK_LEDGER", &place)
        });
    }
    let left = std::fs::read_to_string(sandbox.path("work/file")).unwrap();
    assert_eq!(left, "mine");
}

#[test]
fn without_a_home_there_is_no_ledger() {
    let sandbox = Sandbox::new("without_a_home_there_is_no_ledger");
    let words = ["HOME is not set", "set HOME, XDG_STATE_HOME or OMK_LEDGER"];
    lost(&words, |service| prompt(&sandbox, service).without("HOME"));
    lost(&words, |service| prompt(&sandbox, service).env("HOME", ""));
}

#[cfg(unix)]
#[test]
fn a_ledger_that_may_not_be_written_is_a_loss() {
    use std::os::unix::fs::PermissionsExt;

    let sandbox = Sandbox::new("a_ledger_that_may_not_be_written_is_a_loss");
    let words = ["make ", "writable, or set OMK_LEDGER"];
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let root = sandbox.path("ledger");
    std::fs::create_dir_all(root.join("loose")).unwrap();
    for path in [&root.join("loose"), &root] {
        set_mode(path, 0o555);
    }
    let writes = std::fs::create_dir(root.join("probe")).is_ok();
    if writes {
        std::fs::remove_dir(root.join("probe")).unwrap();
        let omk = env!("CARGO_BIN_EXE_omk");
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", omk];
        let as_nobody = |line: &str| {
            let words = nobody.into_iter().chain(line.split_whitespace());
            sandbox.command("setpriv", words)
        };
        let reaches = crate::sandbox::is_installed("setpriv") && {
            let run = as_nobody("--version").run();
            run.stdout_text().starts_with("omk ")
        };
        match reaches {
            true => lost(&words, |service| {
                as_nobody(FLAGS).arg(service.url()).env("OMK_LEDGER", &root)
            }),
            false => {
                skipped("a ledger without permission: root may write, and nobody cannot run omk")
            }
        }
    } else {
        lost(&words, |service| {
            prompt(&sandbox, service).env("OMK_LEDGER", &root)
        });
    }
    set_mode(&root.join("loose"), 0o755);
    set_mode(&root, 0o755);
    // Here nobody at all makes a directory.
    match Path::new("/sys/kernel").is_dir() {
        true => lost(&words, |service| {
            prompt(&sandbox, service).env("OMK_LEDGER", "/sys/kernel/omk-ledger")
        }),
        false => skipped("a read-only file system: there is no /sys"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_loss() {
    let sandbox = Sandbox::new("a_full_disk_is_a_loss");
    let omk = env!("CARGO_BIN_EXE_omk");
    let place = sandbox.path("ledger");
    std::fs::create_dir_all(&place).unwrap();
    // A file system of four pages, filled, that only this process and its children see.
    let full = format!(
        "mount -t tmpfs -o size=16k none '{0}' && {{ cat /dev/zero > '{0}/full' 2> full; [ -s full ]; }}",
        place.display()
    );
    let with_full = |after: &str, words: &[&str]| {
        let script = format!("{full} && {after}");
        let args = ["-Urm", "sh", "-c", &script, "sh"];
        sandbox.command("unshare", args.iter().chain(words).copied())
    };
    let mounts = crate::sandbox::is_installed("unshare")
        && with_full("echo full", &[]).run().stdout_text() == "full\n";
    match mounts {
        true => lost(&["No space left", "make room on the disk"], |service| {
            let words: Vec<&str> = [omk].into_iter().chain(FLAGS.split_whitespace()).collect();
            with_full("exec \"$@\"", &words)
                .arg(service.url())
                .env("OMK_LEDGER", &place)
        }),
        false => skipped("a full disk: no file system can be mounted here"),
    }
    // A limit on the size of files is nearly the same, and everybody can have it: the write fails half-way.
    lost(&["File too large"], |service| {
        let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
        let words = ["-c", script, "sh", omk];
        let words = words.into_iter().chain(FLAGS.split_whitespace());
        sandbox
            .command("sh", words)
            .arg(service.url())
            .env("OMK_LEDGER", &place)
    });
}

#[test]
fn a_ledger_that_goes_away_in_the_middle_is_a_loss() {
    let sandbox = Sandbox::new("a_ledger_that_goes_away_in_the_middle_is_a_loss");
    let place = sandbox.path("ledger");
    for budget in ["", "5/day"] {
        let service = Service::new(|_| Answer::text(["The ans", "wer.\n"]).hold_before(1));
        let child = prompt(&sandbox, &service)
            .env("MOONSHOT_API_KEY", "sk-test")
            .env("OMK_LEDGER", &place)
            .env("OMK_BUDGET", budget)
            .arg("Why?")
            .spawn();
        service.wait_for_calls(1);
        std::fs::rename(&place, sandbox.path("away")).unwrap();
        std::fs::write(&place, "in the way").unwrap();
        service.release();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(74), &b"The answer.\n"[..]),
            "{stderr}"
        );
        assert!(stderr.contains("omk: ledger: the run "), "{stderr}");
        assert!(stderr.contains("OMK_LEDGER"), "{stderr}");
        // Brought back, it still says what the run may have cost.
        std::fs::remove_file(&place).unwrap();
        std::fs::rename(sandbox.path("away"), &place).unwrap();
        let list = sandbox
            .omk("cost list --status open --json")
            .env("OMK_LEDGER", &place)
            .run();
        let runs = list.code(0).json()["runs"].clone();
        list.check(runs[0]["at_most_usd"].is_number(), "a bound");
        std::fs::remove_dir_all(&place).unwrap();
    }
}
