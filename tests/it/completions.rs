//! Completion scripts, loaded by the shells they are for. A shell that is not installed is skipped,
//! and said so; with `OMK_REQUIRE_SHELLS` it is a failure.

use crate::sandbox::{Sandbox, is_installed};

fn script(sandbox: &Sandbox, shell: &str) -> bool {
    let outcome = sandbox.omk(&format!("completions {shell}")).run();
    sandbox.file(
        &format!("omk.{shell}"),
        outcome.code(0).stderr("").stdout_text(),
    );
    if !is_installed(shell) {
        let required = std::env::var_os("OMK_REQUIRE_SHELLS").is_some();
        assert!(!required, "{shell} is required and not installed");
        eprintln!("skipped: {shell} is not installed, so its completions are not loaded");
    }
    is_installed(shell)
}

/// What is typed before the tab, one word of it per word; and the words that must be offered.
const CASES: &[(&str, &[&str])] = &[
    ("omk est", &["estimate"]),
    ("omk pro", &["prompt"]),
    (
        "omk ",
        &[
            "prompt",
            "estimate",
            "plan",
            "models",
            "cost",
            "templates",
            "doctor",
            "completions",
            "batch",
            "sessions",
            "help",
        ],
    ),
    ("omk plan ", &["check", "show", "diff"]),
    ("omk plan check --st", &["--strict"]),
    ("omk plan check a-f", &["a-file"]),
    ("omk cost re", &["report", "reconcile", "recover", "repair"]),
    ("omk cost report --b", &["--by"]),
    ("omk cost export --format op", &["openmetrics"]),
    ("omk estimate --mo", &["--model"]),
    ("omk estimate --max", &["--max-usd", "--max-tokens"]),
    ("omk estimate --tier ", &["budget", "standard", "premium"]),
    ("omk estimate --vocabulary o2", &["o200k_base"]),
    (
        "omk prompt --thinking ",
        &["on", "off", "low", "high", "max"],
    ),
    ("omk prompt --transport a", &["auto", "acp"]),
    ("omk prompt --schema a-f", &["a-file"]),
    ("omk estimate --session ", &["team", "autopilot", "ralph"]),
    ("omk plan --format mer", &["mermaid"]),
    ("omk completions ", &["bash", "zsh", "fish"]),
    ("omk models up", &["update"]),
    ("omk models update --u", &["--url"]),
    ("omk help mo", &["models"]),
    ("omk estimate a-f", &["a-file"]),
    ("omk estimate --price-file a-f", &["a-file"]),
];

fn check(line: &str, offered: &str, wanted: &[&str]) {
    let mut offered: Vec<&str> = offered
        .lines()
        .map(|line| line.split('\t').next().unwrap().trim())
        .filter(|word| !word.is_empty())
        .collect();
    offered.sort_unstable();
    offered.retain(|word| !word.starts_with("--") || line.contains(" --"));
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    assert_eq!(offered, wanted, "{line}<TAB>");
}

#[test]
fn bash_completes() {
    let sandbox = Sandbox::new("bash_completes");
    sandbox.file("a-file", "");
    if !script(&sandbox, "bash") {
        return;
    }
    for (line, wanted) in CASES
        .iter()
        .chain(&[("omk estimate --tier = pre", &["premium"][..])])
    {
        let program = "source omk.bash; COMP_WORDS=(\"${@:1}\"); COMP_CWORD=$(($# - 1)); _omk; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let words = ["--norc", "-c", program, "bash"]
            .into_iter()
            .chain(line.split(' '));
        let outcome = sandbox.command("bash", words).run();
        outcome.code(0).stderr("");
        check(line, outcome.stdout_text(), wanted);
    }
}

#[test]
fn fish_completes() {
    let sandbox = Sandbox::new("fish_completes");
    sandbox.file("a-file", "");
    if !script(&sandbox, "fish") {
        return;
    }
    for (line, wanted) in CASES {
        let program = format!("source omk.fish; complete -C '{line}'");
        let outcome = sandbox
            .command("fish", ["--no-config", "-c", &program])
            .run();
        outcome.code(0).stderr("");
        check(line, outcome.stdout_text(), wanted);
    }
}

#[test]
fn zsh_completes() {
    let sandbox = Sandbox::new("zsh_completes");
    sandbox.file("a-file", "");
    if !script(&sandbox, "zsh") {
        return;
    }
    sandbox
        .omk("completions zsh")
        .run()
        .code(0)
        .stdout_contains("#compdef omk\n");
    let program = "
        autoload -Uz compinit && compinit -D
        source ./omk.zsh
        whence -w _omk && print -- ${_comps[omk]}";
    let outcome = sandbox.command("zsh", ["-f", "-c", program]).run();
    outcome.code(0).stdout("_omk: function\n_omk\n").stderr("");
}
