//! `omk plan check`, `show` and `diff`: verdicts, forms and exit codes, as a shell sees them.

use serde_json::json;

use crate::sandbox::Sandbox;

const GOOD: &str = r#"{"goal_text": "Add login", "kind": "greenfield", "confidence": 0.9, "complexity_score": 4,
 "slices": [
  {"id": "store", "description": "Store tokens.", "write_set": ["src/store.rs"], "estimated_tokens": 80000},
  {"id": "route", "description": "Add the route.", "write_set": ["src/routes.rs"], "estimated_difficulty": "easy"}],
 "dependencies": [["store", "route"]],
 "acceptance_criteria": ["`GET /login` answers 302"]}
"#;

fn circle() -> String {
    GOOD.replace(
        "[[\"store\", \"route\"]]",
        "[[\"store\", \"route\"], [1, 0]]",
    )
}

#[test]
fn a_plan_without_mistakes_passes_and_one_with_mistakes_does_not() {
    let sandbox = Sandbox::new("a_plan_without_mistakes_passes");
    sandbox.file("good.json", GOOD).file("bad.json", circle());
    let outcome = sandbox.omk("plan check good.json").run();
    outcome
        .code(0)
        .stderr("")
        .stdout("good.json: omk plan, 2 slices: nothing found\n");
    let outcome = sandbox.omk("plan check good.json bad.json").run();
    outcome
        .code(4)
        .stderr("omk: invalid plan: `bad.json` has 1 error\n")
        .stdout(
            "good.json: omk plan, 2 slices: nothing found\n\
bad.json:5:18: error: OMK-P011: $.dependencies: cycle: store -> route -> store
  5 |  \"dependencies\": [[\"store\", \"route\"], [1, 0]],
    |                  ^
  fix: remove one of the dependencies in the cycle
bad.json: detected format: omk (--as overrides it)
bad.json: omk plan, 2 slices: 1 error\n",
        );
    let outcome = sandbox.omk("plan check -").stdin(GOOD).run();
    outcome
        .code(0)
        .stdout("-: omk plan, 2 slices: nothing found\n");
}

#[test]
fn a_warning_fails_only_the_strict() {
    let sandbox = Sandbox::new("a_warning_fails_only_the_strict");
    sandbox.file(
        "vague.json",
        GOOD.replace("`GET /login` answers 302", "the login works"),
    );
    let outcome = sandbox.omk("plan check vague.json").run();
    outcome
        .code(0)
        .stderr("")
        .stdout_contains("vague.json:6:26: warning: OMK-P102: $.acceptance_criteria[0]: ");
    let outcome = sandbox.omk("plan check --strict vague.json").run();
    outcome
        .code(4)
        .stderr("omk: invalid plan: `vague.json` has 1 warning\n");
}

#[test]
fn plans_of_other_tools_are_known_by_what_is_in_them() {
    let sandbox = Sandbox::new("plans_of_other_tools_are_known");
    let tasks = json!({"master": {"tasks": [
        {"id": 1, "title": "a", "description": "x", "status": "pending", "testStrategy": "run", "dependencies": [9]},
    ]}});
    let list =
        "## Phase 1\n\n- [ ] T001 Create a.py\n- [ ] T002 [P] Write src/b.py (depends on T003)\n";
    sandbox.file("one", tasks.to_string()).file("two", list);
    let outcome = sandbox.omk("plan check one two --json").run();
    let document = outcome.code(4).json();
    let found = |file: usize| {
        let file = &document["files"][file];
        let finding = &file["findings"][0];
        json!([
            file["format"],
            file["items"],
            file["errors"],
            finding["code"],
            finding["path"],
            finding["line"]
        ])
    };
    assert_eq!(
        found(0),
        json!([
            "task-master",
            1,
            1,
            "OMK-P009",
            "$.master.tasks[0].dependencies[0]",
            1
        ])
    );
    assert_eq!(found(1), json!(["spec-kit", 2, 1, "OMK-P009", "T002", 4]));
    assert_eq!(document["error"]["kind"], "invalid plan");
    assert_eq!(
        (&document["ok"], &document["exit"]),
        (&json!(false), &json!(4))
    );
}

#[test]
fn the_format_is_said_and_may_be_given() {
    let sandbox = Sandbox::new("the_format_is_said_and_may_be_given");
    sandbox.file("tasks.md", "## 1. Core\n- [ ] 1.1 Add it\n- [ ] Test it\n");
    let outcome = sandbox.omk("plan check tasks.md").run();
    outcome
        .code(0)
        .stdout("tasks.md: openspec plan, 2 tasks: nothing found\n");
    let outcome = sandbox
        .omk("plan check --as spec-kit tasks.md --json")
        .run();
    let document = outcome.code(4).json();
    let file = &document["files"][0];
    assert_eq!(
        json!([file["format"], file["detected"], file["items"]]),
        json!(["spec-kit", false, 0])
    );
    assert_eq!(
        file["findings"][0]["fix"],
        "fill it in, or remove what is empty"
    );
    let outcome = sandbox.omk("plan check --as csv tasks.md").run();
    outcome
        .code(2)
        .stderr_contains("omk, task-master, spec-kit, openspec");
    let outcome = sandbox.omk("plan check --explain OMK-P012").run();
    outcome.code(0).stdout(
        "OMK-P012 write conflict (error)\n\n\
Two slices or tasks that may run at the same time write the same file.\n\n\
fix: let one depend on the other, or split the work by file\n",
    );
    let outcome = sandbox.omk("plan check --explain OMK-P999").run();
    outcome.code(2);
    sandbox
        .omk("plan check --explain OMK-P012 tasks.md")
        .run()
        .code(2);
}

#[test]
fn a_typo_is_no_goal_and_a_file_name_no_text() {
    let sandbox = Sandbox::new("a_typo_is_no_goal");
    sandbox.file("plan.json", GOOD);
    // There is no key and no agent, so the exit code tells whether anything was tried.
    for (line, message, hint) in [
        (
            "plan chekc plan.json",
            "omk: usage: `omk plan` has no command `chekc`",
            "did you mean `omk plan check plan.json`?",
        ),
        (
            "plan list",
            "omk: usage: `omk plan` has no command `list`",
            "did you mean `omk plan show FILE`?",
        ),
        (
            "plan lint x",
            "omk: usage: `omk plan` has no command `lint`",
            "did you mean `omk plan check x`?",
        ),
        (
            "plan plan.json",
            "omk: usage: `plan.json` is a file, not a text",
            "`omk plan check plan.json` checks the plan in it",
        ),
        (
            "prompt plan.json",
            "omk: usage: `plan.json` is a file, not a text",
            "`omk prompt --file plan.json TEXT` asks about its content",
        ),
    ] {
        let outcome = sandbox.omk(line).run();
        outcome
            .code(2)
            .stderr_contains(message)
            .stderr_contains(hint);
    }
    for line in ["plan --dry-run -- list", "plan --dry-run -- plan.json"] {
        sandbox.omk(line).run().code(0);
    }
}

#[test]
fn forms_for_machines() {
    let sandbox = Sandbox::new("forms_for_machines");
    sandbox.file("bad.json", circle());
    let outcome = sandbox.omk("plan check bad.json --format github").run();
    outcome.code(4).stdout(
        "::error file=bad.json,line=5,col=18,title=OMK-P011 cycle::$.dependencies: cycle: store -> route -> store\n",
    );
    let outcome = sandbox.omk("plan check bad.json --format sarif").run();
    let log = outcome.code(4).json();
    assert_eq!(log["version"], "2.1.0");
    assert_eq!(log["runs"][0]["results"][0]["ruleId"], "OMK-P011");
    let outcome = sandbox.omk("plan check bad.json --format markdown").run();
    outcome
        .code(2)
        .stderr_contains("--format: `markdown` is not one of text, json, github, sarif\n");
    sandbox
        .omk("plan check bad.json --format text --json")
        .run()
        .code(2);
    sandbox
        .omk("plan check bad.json --format json")
        .run()
        .code(4)
        .json();
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_checked() {
    let sandbox = Sandbox::new("what_cannot_be_read_is_named");
    sandbox
        .file("bad.json", circle())
        .file("latin1", b"caf\xe9");
    let outcome = sandbox.omk("plan check missing bad.json --json").run();
    let document = outcome.code(66).json();
    assert_eq!(document["files"].as_array().map(Vec::len), Some(1));
    outcome.stderr_contains("omk: input: `missing` does not exist\n");
    outcome.stderr_contains("omk: invalid plan: `bad.json` has 1 error\n");
    // Nothing is replaced in a plan, so nothing is hinted at.
    let stderr =
        "omk: input: `latin1`: the character that begins with byte 0xe9 at offset 3 is cut off\n";
    sandbox
        .omk("plan check latin1")
        .run()
        .code(65)
        .stderr(stderr);
    sandbox
        .omk("plan check")
        .run()
        .code(2)
        .stderr_contains("`-` is standard input");
    sandbox.omk("plan check - -").run().code(2);
    let wide = format!("{{\"goal_text\": \"{}\"}}", "x".repeat(17 * 1024 * 1024));
    let outcome = sandbox.omk("plan check -").stdin(wide).run();
    outcome
        .code(65)
        .stderr("omk: input: `-` is larger than 16 MiB\n");
}

#[test]
fn a_plan_is_shown_in_every_form() {
    let sandbox = Sandbox::new("a_plan_is_shown_in_every_form");
    sandbox.file("plan.json", format!("Here it is:\n```json\n{GOOD}```\n"));
    for (form, part) in [
        (
            "text",
            "\nestimate: ~82500 tokens of prompt and ~27500 of answer, ~$0.66 on kimi-k3\n",
        ),
        ("markdown", "# Plan: Add login\n"),
        ("mermaid", "  s0 --> s1\n"),
        ("dot", "  s0 -> s1 [style=bold];\n"),
        (
            "csv",
            "store,1,true,medium,80000,,src/store.rs,Store tokens.\n",
        ),
    ] {
        let outcome = sandbox
            .omk(&format!("plan show plan.json --format {form}"))
            .run();
        outcome.code(0).stderr("").stdout_contains(part);
    }
    let outcome = sandbox.omk("plan show - --json").stdin(GOOD).run();
    let document = outcome.code(0).stderr("").json();
    assert_eq!(
        (&document["schema"], &document["ok"]),
        (&json!("omk.plan/1"), &json!(true))
    );
    assert_eq!(document["waves"], json!([["store"], ["route"]]));
    assert_eq!(document["estimate"]["usd"], json!(0.66));
    // What is printed is a plan, priced as it was, until another model is named.
    sandbox.file("shown.json", outcome.stdout_text());
    sandbox.omk("plan check shown.json --strict").run().code(0);
    let again = sandbox
        .omk("plan show shown.json --json")
        .env("OMK_MODEL", "kimi-k2.6")
        .run();
    again.code(0).stdout(outcome.stdout_text());
    let other = sandbox
        .omk("plan show shown.json --json --model kimi-k2.6")
        .run()
        .code(0)
        .json();
    assert_eq!(other["estimate"]["model"], "kimi-k2.6");
    let unpriced = sandbox
        .omk("plan show shown.json --json --model never-heard-of")
        .run();
    let document = unpriced.code(0).json();
    assert_eq!(document["estimate"]["usd"], json!(null));
    unpriced.stderr_contains("omk: warning: never-heard-of has no known price per token");
}

#[test]
fn only_a_valid_plan_is_shown() {
    let sandbox = Sandbox::new("only_a_valid_plan_is_shown");
    sandbox.file("bad.json", circle());
    let outcome = sandbox.omk("plan show bad.json").run();
    outcome.code(4).stdout("").stderr(
        "omk: invalid plan: `bad.json`: OMK-P011: $.dependencies: cycle: store -> route -> store\n\
hint: `omk plan check bad.json` lists everything; it knows plans of other tools too\n",
    );
    let document = sandbox
        .omk("plan show bad.json --json")
        .run()
        .code(4)
        .json();
    assert_eq!(document["error"]["kind"], "invalid plan");
    sandbox
        .omk("plan show bad.json --format sarif")
        .run()
        .code(2);
    sandbox.omk("plan show bad.json --model a,b").run().code(2);
    sandbox.omk("plan show a b").run().code(2);
}

#[test]
fn plans_are_compared_as_diff_does() {
    let sandbox = Sandbox::new("plans_are_compared_as_diff_does");
    let other = GOOD.replace("\"easy\"", "\"hard\"").replace(
        "\"dependencies\": [[\"store\", \"route\"]]",
        "\"dependencies\": [], \"complexity_score\": 5",
    );
    let other = other
        .replacen(", \"complexity_score\": 4", "", 1)
        .replace("\"id\": \"store\"", "\"id\": \"vault\"");
    sandbox.file("a.json", GOOD).file("b.json", &other);
    sandbox
        .omk("plan diff a.json a.json")
        .run()
        .code(0)
        .stdout("")
        .stderr("");
    let outcome = sandbox.omk("plan diff a.json b.json").run();
    outcome.code(1).stderr("").stdout(
        "complexity_score: 4 -> 5\n\
waves: 2 -> 1\n\
critical_path\n  - store -> route\n  + route\n\
- store\n\
+ vault: Store tokens.\n\
~ route\n    estimated_difficulty: easy -> hard\n    after: store -> none\n    wave: 2 -> 1\n\
tokens: ~110000 -> ~560000\n\
usd on kimi-k3: ~$0.66 -> ~$3.36\n",
    );
    let document = sandbox
        .omk("plan diff - b.json --json")
        .stdin(GOOD)
        .run()
        .code(1)
        .json();
    assert_eq!(document["schema"], "omk.plan-diff/1");
    assert_eq!(
        (&document["same"], &document["added"]),
        (&json!(false), &json!(["vault"]))
    );
    assert_eq!(document["estimate"]["after"]["usd"], json!(3.36));
    sandbox.omk("plan diff a.json missing").run().code(66);
    sandbox.omk("plan diff a.json").run().code(2);
    sandbox.file("bad.json", circle());
    sandbox.omk("plan diff a.json bad.json").run().code(4);
}

#[test]
fn a_hostile_file_does_no_harm() {
    let sandbox = Sandbox::new("a_hostile_file_does_no_harm");
    let title = GOOD.replace("Add the route.", "\\u001b]0;owned\\u0007 <script>");
    sandbox.file("escape.json", &title).file(
        "deep.json",
        "{\"slices\":".to_string() + &"[".repeat(1_000_000),
    );
    let outcome = sandbox.omk("plan show escape.json").run();
    outcome
        .code(0)
        .stdout_contains("\\u{1b}]0;owned\\u{7} <script>");
    let outcome = sandbox.omk("plan check deep.json").run();
    outcome.code(4).stdout_contains("error: OMK-P001: ");
    outcome.stdout_contains("nested deeper than 64 levels");
}
