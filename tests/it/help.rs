//! Help and version cannot fail: whatever the environment holds, and whoever stops reading.

use std::io::{BufRead, BufReader};

use crate::sandbox::Sandbox;

const COMMANDS: &[&str] = &[
    "prompt",
    "estimate",
    "plan",
    "plan check",
    "plan show",
    "plan diff",
    "models",
    "models update",
    "cost",
    "cost report",
    "cost list",
    "cost show",
    "cost explain",
    "cost check",
    "cost recover",
    "cost import",
    "cost export",
    "cost push",
    "cost clear",
    "cost verify",
    "cost repair",
    "cost path",
    "templates",
    "completions",
    "help",
];

#[test]
fn help_and_version_touch_nothing() {
    let sandbox = Sandbox::new("help_and_version_touch_nothing");
    sandbox.config("not json");
    let mut lines = vec![
        "-h".to_string(),
        "--help".to_string(),
        "help".to_string(),
        "-V".to_string(),
        "--version".to_string(),
    ];
    for command in COMMANDS {
        lines.extend([
            format!("{command} -h"),
            format!("{command} --help"),
            format!("help {command}"),
            format!("{command} -V"),
        ]);
    }
    for line in lines {
        let run = sandbox
            .omk(&line)
            .env("OMK_CONFIG", "missing")
            .env("OMK_DEADLINE", "soon");
        let outcome = run.without("HOME").without("PATH").run();
        outcome.code(0).stderr("");
        outcome.check(!outcome.stdout_text().is_empty(), "expected help");
    }
}

#[test]
fn version_is_that_of_the_package() {
    let sandbox = Sandbox::new("version_is_that_of_the_package");
    sandbox
        .omk("--version")
        .run()
        .code(0)
        .stdout(&format!("omk {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn nothing_asked_prints_the_short_help_as_an_error() {
    let sandbox = Sandbox::new("nothing_asked_prints_the_short_help_as_an_error");
    let help = sandbox.omk("-h").run();
    sandbox
        .omk("")
        .run()
        .code(2)
        .stdout("")
        .stderr(help.stdout_text());
}

#[test]
fn the_full_help_of_a_command_is_the_same_from_both_sides() {
    let sandbox = Sandbox::new("the_full_help_of_a_command_is_the_same_from_both_sides");
    for command in COMMANDS {
        let help = sandbox.omk(&format!("help {command}")).run();
        sandbox
            .omk(&format!("{command} --help"))
            .run()
            .code(0)
            .stdout(help.stdout_text());
        sandbox
            .omk(&format!("--help {command}"))
            .run()
            .code(0)
            .stdout(help.stdout_text());
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_not_an_error() {
    let sandbox = Sandbox::new("a_reader_that_leaves_is_not_an_error");
    // The pipe is closed before the program writes, and after it wrote the first line.
    for read_first in [false, true] {
        let mut child = sandbox.omk("help estimate").spawn();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        if read_first {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            assert!(line.starts_with("omk estimate: "), "{line}");
        }
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), b"".as_slice())
        );
    }
}

#[test]
fn every_flag_of_the_help_is_in_the_man_page() {
    let sandbox = Sandbox::new("every_flag_of_the_help_is_in_the_man_page");
    let manual = crate::tidy::root().join("man");
    let read = |name: &str| std::fs::read_to_string(manual.join(name)).unwrap();
    for command in COMMANDS {
        let word = command.split(' ').next().unwrap();
        let page = read("omk.1") + &read(&format!("omk-{word}.1"));
        let page = page.replace("\\-", "-");
        let help = sandbox.omk(&format!("{command} -h")).run();
        for flag in help
            .stdout_text()
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            let flag = flag.trim_end_matches('`');
            assert!(
                page.contains(&format!("\\fB{flag}\\fR")),
                "{command} {flag}"
            );
        }
    }
}

#[test]
fn every_page_of_the_manual_is_a_topic_of_help() {
    let sandbox = Sandbox::new("every_page_of_the_manual_is_a_topic_of_help");
    let whole = sandbox.omk("help").run();
    let mut pages = 0;
    for path in crate::tidy::files("man") {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let Some((name, section)) = name.rsplit_once('.') else {
            continue;
        };
        let topic = name.trim_start_matches("omk").trim_start_matches('-');
        if section == "1" || section == "svg" {
            continue;
        }
        let help = sandbox.omk(&format!("help {topic}")).run();
        let help = help.code(0).stdout_text();
        assert!(
            help.starts_with(&format!("omk-{topic}({section}): ")),
            "{help}"
        );
        assert!(help.lines().count() > 5 && !help.contains("{--"), "{help}");
        sandbox.omk(&format!("help {name}")).run().stdout(help);
        whole.stdout_contains(&format!("\n  {topic} "));
        pages += 1;
    }
    assert_eq!(pages, 9);
}

#[test]
fn every_document_has_a_schema() {
    let sandbox = Sandbox::new("every_document_has_a_schema");
    let mut names = Vec::new();
    for path in crate::tidy::files("src") {
        let text = std::fs::read_to_string(crate::tidy::root().join(path)).unwrap_or_default();
        // What the unit tests make up is no document.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, _) in text.match_indices("\"omk.") {
            let rest = &text[at + 5..];
            if let Some((name, _)) = rest.split_once("/1\"")
                && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            {
                names.push(name.to_string());
            }
        }
    }
    names.sort();
    names.dedup();
    // A recording is written and read by omk alone.
    names.retain(|name| name != "tape");
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let outcome = sandbox.omk(&format!("help --schema {name}")).run();
        let schema: serde_json::Value =
            serde_json::from_str(outcome.code(0).stdout_text()).unwrap();
        assert_eq!(schema["$id"], format!("urn:omk:{name}:1"));
    }
    let outcome = sandbox.omk("help --schema nothing").run();
    outcome.code(2).stderr_contains("session-estimate");
    sandbox.omk("help --schema result prompt").run().code(2);
}
