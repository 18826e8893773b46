//! Every example of the README, run as it stands there, and the picture of a session that it shows.
//!
//! In a `console` block a line after `$ ` is run by the shell, and what follows up to the next one is what a terminal shows.
//! The examples of a block share a directory.

use std::fmt::Write as _;

use crate::sandbox::Sandbox;

const README: &str = include_str!("../../README.md");

/// The commands of a block, each with the lines that it should print.
fn examples(block: &str) -> Vec<(&str, String)> {
    let mut examples: Vec<(&str, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), examples.last_mut()) {
            (Some(command), _) => examples.push((command, String::new())),
            (None, Some((_, output))) => {
                output.push_str(line);
                output.push('\n');
            }
            (None, None) => panic!("output before any command: {line}"),
        }
    }
    examples
}

/// Stands between the outputs of two commands.
const MARK: &str = "~~~~ next ~~~~\n";

/// What each command prints, all of them run by one shell, so that files and `$?` are what a reader thinks. `joined` sends
/// both streams to one place, as a terminal does; otherwise standard error comes second.
fn run(sandbox: &Sandbox, commands: &[&str], joined: bool) -> Vec<(String, String)> {
    let mut script =
        format!("mark() {{ s=$?; printf '{MARK}'; printf '{MARK}' >&2; return $s; }}\n");
    if joined {
        script = format!("exec 2>&1\nmark() {{ s=$?; printf '{MARK}'; return $s; }}\n");
    }
    for command in commands {
        script.push_str(&format!("{command}\nmark\n"));
    }
    let outcome = sandbox.command("sh", ["-c", &script]).run();
    let (out, err) = (outcome.stdout_text(), outcome.stderr_text());
    let errors = err.split(MARK).chain(std::iter::repeat(""));
    let both = out.split(MARK).zip(errors);
    both.take(commands.len())
        .map(|(out, err)| (out.to_string(), err.to_string()))
        .collect()
}

#[test]
fn every_example_shows_what_it_says() {
    let blocks = README.split("```console\n").skip(1);
    let blocks: Vec<&str> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(blocks.len() >= 4, "{} blocks", blocks.len());
    for (number, block) in blocks.iter().enumerate() {
        let examples = examples(block);
        let commands: Vec<&str> = examples.iter().map(|(command, _)| *command).collect();
        let joined = Sandbox::new(&format!("readme_{number}_joined"));
        let apart = Sandbox::new(&format!("readme_{number}_apart"));
        let shown = run(&joined, &commands, true);
        let apart = run(&apart, &commands, false);
        for (((command, want), (shown, _)), (out, err)) in examples.iter().zip(shown).zip(apart) {
            assert_eq!(&shown, want, "$ {command}");
            // Only messages go to standard error.
            assert_eq!(format!("{out}{err}"), *want, "$ {command}");
            for line in err.lines() {
                assert!(
                    line.starts_with("omk: ") || line.starts_with("hint: "),
                    "{line}"
                );
            }
        }
    }
}

#[test]
fn the_readme_is_short_and_its_links_lead_somewhere() {
    assert!(README.lines().count() <= 250);
    for link in README.split("](").skip(1) {
        let link = link.split(')').next().unwrap();
        if !link.contains("://") {
            assert!(crate::tidy::root().join(link).exists(), "{link}");
        }
    }
}

/// The commands of the picture. The files that they read are made before, unseen.
const SESSION: &[&str] = &[
    "git diff | omk estimate --max-usd 0.05",
    "omk prompt --replay example \"In one sentence: why count tokens before asking?\"",
    "omk plan check plan.json",
    "omk cost report --by model",
];

/// What is there before the picture begins.
const BEFORE: &str = r#"git() { yes "+    let total = prices.iter().sum();" | head -n 400; }
d="$HOME/.kimi-code/sessions/demo/session_1/agents/main"; mkdir -p "$d"
printf '%s\n' '{"type":"turn.prompt","turnId":0,"origin":{"kind":"user"},"promptId":"msg_1","time":1795165510000}' '{"type":"llm.request","model":"kimi-k3","modelAlias":"mine"}' '{"type":"usage.record","model":"mine","usage":{"inputOther":8200,"inputCacheRead":61000,"output":900},"time":1795165512000}' '{"type":"turn.ended","turnId":0,"reason":"completed","time":1795165512100}' > "$d/wire.jsonl"
omk cost import kimi > import.txt
printf '%s' '{"kind": "repair", "complexity_score": 2, "slices": [{"id": "find", "description": "Find it"}, {"id": "fix", "description": "Fix it"}], "dependencies": [["find", "fix"], ["fix", "find"]]}' > plan.json"#;

/// The session as a picture: text on a dark ground, commands brighter than what they print.
fn picture(shown: &[(String, String)]) -> String {
    const WIDTH: usize = 112;
    const LINE: usize = 20;
    let mut lines: Vec<(bool, String)> = Vec::new();
    for (command, (output, _)) in SESSION.iter().zip(shown) {
        lines.push((true, format!("$ {command}")));
        for line in output.lines() {
            let chars: Vec<char> = line.chars().collect();
            let parts = chars.chunks(WIDTH).map(|part| part.iter().collect());
            lines.extend(parts.map(|part| (false, part)));
        }
        lines.push((false, String::new()));
    }
    lines.pop();
    let (width, height) = (WIDTH * 8 + 40, lines.len() * LINE + 50);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"A terminal session with omk\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#16181d\"/>\n\
         <g font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\" xml:space=\"preserve\" style=\"white-space: pre\">\n"
    );
    for (number, (is_command, line)) in lines.iter().enumerate() {
        let fill = match (is_command, line) {
            (true, _) => "#ffffff",
            (_, line) if line.starts_with("omk: ") || line.contains(": error: ") => "#ff9b8f",
            _ => "#b9c0cc",
        };
        let text = line.replace('&', "&amp;").replace('<', "&lt;");
        let y = 35 + number * LINE;
        writeln!(
            out,
            "<text x=\"20\" y=\"{y}\" fill=\"{fill}\">{text}</text>"
        )
        .unwrap();
    }
    out.push_str("</g>\n</svg>\n");
    out
}

#[test]
fn the_picture_is_of_this_version() {
    let sandbox = Sandbox::new("the_picture_is_of_this_version");
    let commands: Vec<&str> = [BEFORE]
        .into_iter()
        .chain(SESSION.iter().copied())
        .collect();
    let shown = run(&sandbox, &commands, true);
    let picture = picture(&shown[1..]);
    let path = crate::tidy::root().join("man/session.svg");
    if std::env::var_os("OMK_BLESS").is_some() {
        std::fs::write(&path, &picture).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == picture,
        "man/session.svg is stale: OMK_BLESS=1 cargo test --test it readme rewrites it"
    );
}
