//! Habits from other programs: names that mean the same, hints where they do not, and what scripts expect of an answer.

use std::process::Stdio;

use crate::result::KEY;
use crate::sandbox::{Run, Sandbox};
use crate::service::{Answer, Service};

fn ask(sandbox: &Sandbox, service: &Service, flags: &str) -> Run {
    sandbox
        .omk(&format!("prompt --base-url {} {flags}", service.url()))
        .env("MOONSHOT_API_KEY", KEY)
}

fn saying(text: &'static str) -> Service {
    Service::new(move |_| Answer::text([text]))
}

#[test]
fn an_answer_ends_with_a_newline_unless_raw() {
    let sandbox = Sandbox::new("an_answer_ends_with_a_newline_unless_raw");
    let service = saying("Four.");
    ask(&sandbox, &service, "2+2?")
        .run()
        .code(0)
        .stdout("Four.\n");
    ask(&sandbox, &service, "-n 2+2?")
        .run()
        .code(0)
        .stdout("Four.\n");
    ask(&sandbox, &service, "--raw 2+2?")
        .run()
        .code(0)
        .stdout("Four.");
    let ended = saying("Four.\n");
    ask(&sandbox, &ended, "2+2?")
        .run()
        .code(0)
        .stdout("Four.\n");
}

#[test]
fn extract_prints_the_first_code_block_alone() {
    let sandbox = Sandbox::new("extract_prints_the_first_code_block_alone");
    let service = saying("Here it is:\n```sh\nls -l\n```\nIt lists files.");
    for flag in ["-x", "--extract"] {
        let outcome = ask(&sandbox, &service, &format!("{flag} How?")).run();
        outcome.code(0).stdout("ls -l\n").stderr("");
    }
    let none = saying("Type ls.");
    let outcome = ask(&sandbox, &none, "-x How?").run();
    outcome
        .code(4)
        .stdout("")
        .stderr_contains("there is no code block in the answer");
    outcome.stderr_contains("Type ls.");
    let outcome = ask(&sandbox, &none, "-x --json How?").run();
    outcome
        .code(2)
        .stderr_contains("--extract and --json exclude each other");
}

#[test]
fn the_answer_goes_to_a_file_too() {
    let sandbox = Sandbox::new("the_answer_goes_to_a_file_too");
    let service = saying("Four.");
    ask(&sandbox, &service, "--output-last-message a.txt 2+2?")
        .run()
        .code(0)
        .stdout("Four.\n");
    assert_eq!(
        std::fs::read_to_string(sandbox.path("work/a.txt")).unwrap(),
        "Four."
    );
}

#[test]
fn names_count_from_the_directory() {
    let sandbox = Sandbox::new("names_count_from_the_directory");
    sandbox.file("sub/notes.txt", "the notes");
    let service = saying("Yes.");
    ask(&sandbox, &service, "-C sub -f notes.txt Read?")
        .run()
        .code(0);
    let calls = service.calls();
    assert!(calls[0].asks("the notes"), "{:?}", calls[0].body);
    sandbox
        .omk("estimate --cd sub --count notes.txt")
        .run()
        .code(0);
    sandbox
        .omk("prompt -C missing Why?")
        .run()
        .code(66)
        .stderr_contains("--directory `missing`");
}

#[test]
fn verbose_prints_the_steps() {
    let sandbox = Sandbox::new("verbose_prints_the_steps");
    let service = saying("Four.");
    let outcome = ask(&sandbox, &service, "-v 2+2?").run();
    outcome.code(0).stdout("Four.\n").stderr_contains(" tokens");
}

#[test]
fn short_names_reach_the_service() {
    let sandbox = Sandbox::new("short_names_reach_the_service");
    let service = saying("Yes.");
    for flags in ["-s Terse.", "--system-prompt Terse.", "--system=Terse."] {
        ask(&sandbox, &service, &format!("{flags} Why?"))
            .run()
            .code(0);
    }
    for call in service.calls() {
        assert_eq!(call.body["messages"][0]["content"], "Terse.");
    }
    let outcome = ask(&sandbox, &service, "--output-format json Why?").run();
    assert_eq!(outcome.code(0).json()["text"], "Yes.");
    let outcome = sandbox.omk("prompt --output-format json --bogus").run();
    assert_eq!(outcome.code(2).json()["error"]["kind"], "usage");
}

#[test]
fn a_schema_may_stand_in_the_command() {
    let sandbox = Sandbox::new("a_schema_may_stand_in_the_command");
    let service = saying("{\"name\": \"Ada\", \"age\": 36}");
    for schema in [
        "name, age int",
        "{\"type\": \"object\", \"required\": [\"age\"]}",
    ] {
        let outcome = ask(&sandbox, &service, "Who?")
            .arg("--schema")
            .arg(schema)
            .run();
        outcome.code(0).stdout("{\"name\": \"Ada\", \"age\": 36}\n");
    }
    let outcome = ask(&sandbox, &service, "Who?")
        .arg("--schema")
        .arg("name, age bool")
        .run();
    outcome.code(4);
    let outcome = ask(&sandbox, &service, "Who?")
        .arg("--schema")
        .arg("name, age cat")
        .run();
    outcome
        .code(2)
        .stderr_contains("`cat` of `age` is not one of str, int, float, bool");
}

#[test]
fn a_key_for_another_program_is_named() {
    let sandbox = Sandbox::new("a_key_for_another_program_is_named");
    let hint = "hint: OPENAI_API_KEY and OPENAI_BASE_URL are not read";
    for (name, value) in [
        ("OPENAI_API_KEY", "sk-other"),
        ("OPENAI_BASE_URL", "https://host/v1"),
    ] {
        for flags in ["", "--transport http"] {
            let outcome = sandbox
                .omk(&format!("prompt {flags} Why?"))
                .env(name, value)
                .run();
            outcome.stderr_contains(hint);
            outcome.check(
                !outcome.stderr_text().contains(value),
                "the value is not shown",
            );
        }
    }
    let outcome = sandbox.omk("prompt Why?").run();
    outcome.check(
        !outcome.stderr_text().contains("OPENAI"),
        "no hint without it",
    );
}

#[cfg(unix)]
#[test]
fn a_loop_over_the_lines_of_a_file_keeps_its_lines() {
    let sandbox = Sandbox::new("a_loop_over_the_lines_of_a_file_keeps_its_lines");
    sandbox.file("lines", "one?\ntwo?\nthree?\n");
    let service = Service::new(|call| {
        Answer::text([call.last()["content"]
            .as_str()
            .unwrap_or_default()
            .to_string()])
    });
    let program =
        "while read -r line; do \"$OMK\" prompt --base-url \"$URL\" \"$line\"; done < lines";
    let outcome = sandbox
        .command("sh", ["-c", program])
        .env("OMK", env!("CARGO_BIN_EXE_omk"))
        .env("URL", service.url())
        .env("MOONSHOT_API_KEY", KEY)
        .run();
    outcome.code(0).stdout("one?\ntwo?\nthree?\n");
    outcome.stderr_contains("standard input was partly read by another program");
    // From its beginning a file is part of the question, as before.
    let file = std::fs::File::open(sandbox.path("work/lines")).unwrap();
    ask(&sandbox, &service, "Which?")
        .stdin_from(Stdio::from(file))
        .run()
        .code(0);
    assert!(service.calls()[3].asks("two?"));
}

/// What a newcomer types, the exit code, and a part of what is said.
const NEWCOMERS: &[(&[&str], i32, &str)] = &[
    (
        &["What is a token?"],
        2,
        "`omk prompt \"...\"` asks a question",
    ),
    (
        &["-p", "What is a token?"],
        2,
        "`omk prompt \"...\"` asks a question",
    ),
    (&["ls"], 2, "`omk cost list` lists runs"),
    (&["usage"], 2, "`omk cost report`"),
    (&["logs"], 2, "`omk cost show last`"),
    (&["count", "a.txt"], 2, "`omk estimate --count FILE`"),
    (&["version"], 2, "`omk --version`"),
    (&["config"], 2, "config.json"),
    (&["cost", "ls"], 2, "`omk cost list`"),
    (&["cost", "-h"], 0, "  report  "),
    (&["help", "cost"], 0, "  report  "),
    (&["prompt", "-p", "Why?"], 2, "leave it out"),
    (&["prompt", "-z"], 2, "`omk prompt -h` lists its flags"),
    (&["prompt", "--yolo", "Do it"], 2, "--allow all"),
    (
        &["prompt", "-o", "out.txt", "Why?"],
        2,
        "--output-last-message FILE",
    ),
    (
        &["prompt", "--key", "sk-x", "Why?"],
        2,
        "set MOONSHOT_API_KEY",
    ),
    (
        &["prompt", "--timeout", "soon", "Why?"],
        2,
        "--timeout: `soon` is not a duration",
    ),
    (
        &["prompt", "--output-format", "xml", "Why?"],
        2,
        "is not one of text, json, stream-json",
    ),
    (&["prompt", "-h"], 0, "Limits options:"),
    (
        &["estimate", "--max-budget-usd", "0.05", "--count", "-"],
        0,
        "0\n",
    ),
];

#[test]
fn newcomers_are_told_what_omk_has() {
    let sandbox = Sandbox::new("newcomers_are_told_what_omk_has");
    for (arguments, code, said) in NEWCOMERS {
        let run = sandbox.omk("").stdin("");
        let run = arguments
            .iter()
            .fold(run, |run, argument| run.arg(*argument));
        let outcome = run.run();
        outcome.code(*code);
        let all = format!("{}{}", outcome.stdout_text(), outcome.stderr_text());
        outcome.check(all.contains(said), &format!("{arguments:?} says {said}"));
    }
}

#[test]
fn a_dry_run_sends_and_starts_nothing() {
    let sandbox = Sandbox::new("a_dry_run_sends_and_starts_nothing");
    let service = saying("No.");
    let flags = "--dry-run -m kimi-k3 --max-output-tokens 100 -s Terse. Why is it so?";
    let outcome = ask(&sandbox, &service, flags)
        .env("OMK_BUDGET", "5/day")
        .run();
    outcome.code(0).stdout("Terse.\n\nWhy is it so?\n");
    for said in [
        "omk: nothing was sent; it would go to ",
        " tokens for kimi-k3, $",
        "omk: at most $",
        "5/day: $0 spent, $0 reserved; the worst case fits",
    ] {
        outcome.stderr_contains(said);
    }
    let outcome = ask(&sandbox, &service, &format!("--json {flags}")).run();
    let document = outcome.code(0).json();
    assert_eq!(document["schema"], "omk.request/1");
    assert_eq!(document["transport"], "http");
    assert_eq!(document["destination"], service.url());
    assert_eq!(document["output_tokens"], 100);
    assert!(document["worst_case_usd"].as_f64() > document["usd"].as_f64());
    // What would be refused is refused.
    let outcome = ask(&sandbox, &service, "--dry-run -m kimi-k3 Why?")
        .env("OMK_BUDGET", "0.01/day")
        .run();
    outcome
        .code(5)
        .stderr_contains("the worst case does not fit in ");
    ask(&sandbox, &service, "--dry-run --max-usd 0.000001 Why?")
        .run()
        .code(5);
    ask(&sandbox, &service, "--dry-run --stream-json Why?")
        .run()
        .code(2);
    assert_eq!(service.calls().len(), 0);
    assert_eq!(service.others(), [""; 0]);
    // The ledger was not begun, and an agent was not started.
    assert!(!sandbox.path("home/.local/state/omk").exists());
    sandbox.file("kimi", "#!/bin/sh\ntouch started\n");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(sandbox.path("work/kimi"), executable).unwrap();
    }
    let outcome = sandbox.omk("prompt --dry-run --kimi ./kimi Why?").run();
    outcome.code(0).stderr_contains("the agent's own model");
    assert!(!sandbox.path("work/started").exists());
}
