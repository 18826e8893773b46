//! Plans of three tools, and what is found in each.

use proptest::prelude::*;

use super::*;

/// Codes and places, in order.
fn found(text: &str) -> Vec<String> {
    let checked = check(text);
    let list = checked.findings.list().iter();
    list.map(|finding| format!("{} {}", finding.code.id(), finding.path))
        .collect()
}

fn messages(text: &str) -> String {
    check(text).findings.to_string()
}

const GOOD: &str = r#"{"goal_text":"g","kind":"repair","complexity_score":3,"is_testable":true,
    "slices":[{"id":"a","description":"x","write_set":["a.rs"]}],"acceptance_criteria":["`make` exits 0"]}"#;

#[test]
fn a_good_plan_has_nothing_to_say() {
    let checked = check(GOOD);
    assert_eq!((checked.format, checked.items), (PlanFormat::Omk, 1));
    assert!(checked.findings.is_empty(), "{}", checked.findings);
    let audit = GOOD
        .replace("repair", "audit")
        .replace(",\"write_set\":[\"a.rs\"]", "");
    assert!(found(&audit).is_empty());
}

#[test]
fn doubts_about_a_plan() {
    for (from, to, wanted) in [
        (r#""goal_text":"g","#, "", "OMK-P106 $.goal_text"),
        ("repair", "vague", "OMK-P105 $.kind"),
        (
            r#""kind""#,
            r#""suggested_refinement":"say more","kind""#,
            "OMK-P105 $.suggested_refinement",
        ),
        (
            r#""is_testable":true"#,
            r#""is_testable":false"#,
            "OMK-P111 $.is_testable",
        ),
        (r#","write_set":["a.rs"]"#, "", "OMK-P103 $.slices[0]"),
        (
            r#""id":"a","#,
            r#""estimated_difficulty":"complex","#,
            "OMK-P104 $.slices[0].estimated_difficulty",
        ),
        (
            r#"["`make` exits 0"]"#,
            "[]",
            "OMK-P101 $.acceptance_criteria",
        ),
        (
            r#"["`make` exits 0"]"#,
            r#"["It works properly"]"#,
            "OMK-P102 $.acceptance_criteria[0]",
        ),
        (
            r#""`make` exits 0""#,
            r#""`make` exits 0"," `MAKE` exits 0""#,
            "OMK-P107 $.acceptance_criteria[1]",
        ),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_eq!(found(&text), [wanted], "{text}");
        assert!(!check(&text).findings.has_errors());
    }
}

const TASKS: &str = r#"{"master": {"tasks": [
    {"id": 1, "title": "a", "description": "x", "status": "done", "testStrategy": "run it", "dependencies": []},
    {"id": 2, "title": "b", "details": "y", "status": "pending", "testStrategy": "run it", "dependencies": [1],
     "subtasks": [{"id": 1, "title": "c", "description": "z", "status": "pending", "dependencies": []},
                  {"id": 2, "title": "d", "description": "z", "status": "pending", "dependencies": [1, "1"]}]}
], "metadata": {"created": "2026-01-01"}}}"#;

#[test]
fn a_good_list_of_task_master() {
    let checked = check(TASKS);
    assert_eq!((checked.format, checked.items), (PlanFormat::TaskMaster, 4));
    assert!(checked.findings.is_empty(), "{}", checked.findings);
    let legacy = TASKS
        .strip_prefix("{\"master\": ")
        .unwrap()
        .strip_suffix('}')
        .unwrap();
    assert_eq!(check(legacy).items, 4);
}

#[test]
fn what_is_wrong_with_tasks() {
    let in_two = "$.master.tasks[1]";
    for (from, to, wanted) in [
        (
            "\"dependencies\": [1],",
            "\"dependencies\": [7],",
            format!("OMK-P009 {in_two}.dependencies[0]"),
        ),
        (
            "\"dependencies\": [1],",
            "\"dependencies\": [2],",
            format!("OMK-P010 {in_two}.dependencies[0]"),
        ),
        (
            "[1, \"1\"]",
            "[\"2.2\"]",
            format!("OMK-P010 {in_two}.subtasks[1].dependencies[0]"),
        ),
        (
            "[1, \"1\"]",
            "[\"x\"]",
            format!("OMK-P009 {in_two}.subtasks[1].dependencies[0]"),
        ),
        (
            "\"dependencies\": []},\n    {",
            "\"dependencies\": [2]},\n    {",
            "OMK-P011 $.master.tasks".to_string(),
        ),
        (
            "{\"id\": 2, \"title\": \"d\"",
            "{\"id\": 1, \"title\": \"d\"",
            format!("OMK-P008 {in_two}.subtasks[1].id"),
        ),
        ("\"title\": \"b\", ", "", format!("OMK-P004 {in_two}")),
        ("\"details\": \"y\", ", "", format!("OMK-P108 {in_two}")),
        (
            "\"status\": \"pending\", \"testStrategy\"",
            "\"status\": \"soon\", \"testStrategy\"",
            format!("OMK-P005 {in_two}.status"),
        ),
        (
            "\"testStrategy\": \"run it\", \"dependencies\": [1]",
            "\"dependencies\": [1]",
            format!("OMK-P101 {in_two}"),
        ),
        (
            "\"id\": 2, \"title\": \"b\"",
            "\"id\": [], \"title\": \"b\"",
            format!("OMK-P003 {in_two}.id"),
        ),
    ] {
        let text = TASKS.replacen(from, to, 1);
        assert!(text != TASKS, "{from}");
        assert!(found(&text).contains(&wanted), "{from}: {:?}", found(&text));
    }
    assert_eq!(found(r#"{"tasks": []}"#), ["OMK-P007 $.tasks"]);
    let early = TASKS.replacen(
        "\"status\": \"pending\", \"testStrategy\"",
        "\"status\": \"done\", \"testStrategy\"",
        1,
    );
    let early = early.replacen("\"status\": \"done\"", "\"status\": \"pending\"", 1);
    assert!(found(&early).contains(&format!("OMK-P109 {in_two}.dependencies[0]")));
    assert!(
        messages(&TASKS.replacen(
            "\"dependencies\": []},\n    {",
            "\"dependencies\": [2]},\n    {",
            1
        ))
        .contains("cycle: 1 -> 2 -> 1")
    );
}

const LIST: &str = "# Tasks: login

## Phase 1: Setup

- [x] T001 Create the project in src/main.py
- [ ] T002 [P] Configure `ruff.toml`

## Phase 2: Story 1

- [ ] T003 [P] [US1] Create User in src/models/user.py
- [ ] **T004** [P] [US1] Create Token in src/models/token.py
- [ ] T005 [US1] Create the service in src/services/login.py
      (depends on T003-T004)

```bash
- [ ] T999 not a task
```
<!-- - [ ] T998
- [ ] T997 nor this -->
";

#[test]
fn a_good_list_of_spec_kit() {
    let checked = check(LIST);
    assert_eq!((checked.format, checked.items), (PlanFormat::SpecKit, 5));
    assert!(checked.findings.is_empty(), "{}", checked.findings);
}

#[test]
fn what_is_wrong_with_a_list() {
    for (from, to, wanted) in [
        ("T003-T004", "T007", "OMK-P009 T005"),
        ("T003-T004", "T005", "OMK-P010 T005"),
        ("user.py\n", "user.py (depends on T005)\n", "OMK-P011 T003"),
        (
            "user.py\n",
            "user.py (Blocked by T004, see T005)\n",
            "OMK-P015 T003",
        ),
        ("token.py", "user.py", "OMK-P012 T004"),
        ("T002 [P]", "T001 [P]", "OMK-P008 T001"),
        (
            "T002 [P] Configure `ruff.toml`",
            "T002 [P]",
            "OMK-P007 T002",
        ),
        ("T002", "TXXX", "OMK-P110 "),
        ("- [ ] T005", "- [x] T005", "OMK-P109 T005"),
    ] {
        let text = LIST.replacen(from, to, 1);
        assert!(
            found(&text).contains(&wanted.to_string()),
            "{from}: {:?}",
            found(&text)
        );
    }
    // Whoever waits for the other may write the same file.
    let waits = LIST.replacen("token.py", "user.py (depends on T003)", 1);
    assert!(found(&waits).is_empty(), "{:?}", found(&waits));
    // Only a mix of both has tasks without an id.
    let mixed = format!("{LIST}- [ ] do it\n");
    assert_eq!(found(&mixed), ["OMK-P110 "]);
    let none = check_as("- [ ] do it\n", PlanFormat::SpecKit);
    assert_eq!((none.items, none.findings.list().len()), (0, 2));
}

#[test]
fn what_is_said_about_an_id_is_no_dependency() {
    for (words, waits) in [
        ("(depends on T003, T004)", &["T003", "T004"][..]),
        ("(depends on: **T003** and T004)", &["T003", "T004"]),
        ("(depends on tasks T001-T003)", &["T001", "T002", "T003"]),
        ("(depends on T001 to T003)", &["T001", "T002", "T003"]),
        ("(depends on T003 for the schema, see T010)", &["T003"]),
        ("(Blocked by T004, see T010)", &["T004"]),
        ("(depends on T003, T012 dependency removed)", &["T003"]),
        ("(T012 dependency removed)", &[]),
        ("(depends on T012 dependency removed)", &[]),
        ("(no longer depends on T012)", &[]),
        ("(see T010)", &[]),
        ("as in xT003; depends on nothing", &[]),
    ] {
        let list: String = (1..5).map(|n| format!("- [ ] T00{n} x\n")).collect();
        let list = format!("{list}- [ ] T005 Do it {words}\n");
        let text = check(&list).findings.to_string();
        let expected = waits.iter().filter(|id| **id > "T004").count();
        assert_eq!(
            text.matches("OMK-P009").count(),
            expected,
            "{words}: {text}"
        );
        // Each that is waited for closes a cycle with a task that waits for T005.
        for n in 1..5 {
            let id = format!("T00{n}");
            let cyclic = list.replace(&format!("{id} x"), &format!("{id} x (depends on T005)"));
            let is_cycle = check(&cyclic).findings.to_string().contains("OMK-P011");
            assert_eq!(is_cycle, waits.contains(&id.as_str()), "{words} {id}");
        }
    }
}

const CHANGE: &str = "# Tasks

## 1. Storage
- [x] 1.1 Add the table `sessions`
- [ ] 1.2 Migrate old rows
  - [ ] back up first
  - keep the ids
- [ ] 1.10 Measure it (depends on 1.2)

## 2. Interface

- [ ] **2.1** Add `src/login.rs`
- [ ] Write the manual
";

#[test]
fn a_good_list_of_openspec() {
    let checked = check(CHANGE);
    assert_eq!((checked.format, checked.items), (PlanFormat::OpenSpec, 6));
    assert!(checked.findings.is_empty(), "{}", checked.findings);
    let numbered = check("- [ ] do it\n");
    assert_eq!((numbered.format, numbered.items), (PlanFormat::OpenSpec, 1));
    assert!(numbered.findings.is_empty());
}

#[test]
fn what_is_wrong_with_a_list_of_openspec() {
    for (from, to, wanted) in [
        ("1.2 Migrate", "1.1 Migrate", "OMK-P008 1.1"),
        ("depends on 1.2", "depends on 1.3", "OMK-P009 1.10"),
        ("depends on 1.2", "depends on 2.1", "OMK-P015 1.10"),
        ("Migrate old rows", "", "OMK-P007 1.2"),
        ("[ ] 1.10", "[x] 1.10", "OMK-P109 1.10"),
    ] {
        let text = CHANGE.replacen(from, to, 1);
        let found = found(&text);
        assert!(found.contains(&wanted.to_string()), "{from}: {found:?}");
    }
}

#[test]
fn tasks_of_an_editor_are_not_task_masters() {
    for text in [
        r#"{"version": "2.0.0", "tasks": [{"label": "build", "type": "shell", "command": "make"}]}"#,
        r#"{"version": "2.0.0", "tasks": []}"#,
    ] {
        assert_eq!(check(text).format, PlanFormat::Omk, "{text}");
    }
}

#[test]
fn a_format_that_is_said_is_not_looked_for() {
    assert_eq!(check_as(TASKS, PlanFormat::TaskMaster), check(TASKS));
    assert_eq!(check_as(GOOD, PlanFormat::Omk), check(GOOD));
    assert_eq!(check_as(LIST, PlanFormat::SpecKit), check(LIST));
    assert!(check_as(LIST, PlanFormat::Omk).findings.has_errors());
    let other = check_as(LIST, PlanFormat::OpenSpec);
    assert_eq!((other.items, other.findings.has_errors()), (5, false));
}

#[test]
fn a_plan_and_its_slices_state_about_the_same_tokens() {
    let plan = |stated: u64, slices: &[&str]| {
        let slices: Vec<String> = slices
            .iter()
            .map(|rest| {
                format!(
                    r#"{{"description":"x","write_set":["{}"]{rest}}}"#,
                    rest.len()
                )
            })
            .collect();
        let text = GOOD.replace(
            r#"[{"id":"a","description":"x","write_set":["a.rs"]}]"#,
            &format!("[{}]", slices.join(",")),
        );
        let chain: Vec<String> = (1..slices.len())
            .map(|n| format!("[{},{n}]", n - 1))
            .collect();
        text.replacen(
            '{',
            &format!(
                "{{\"estimated_tokens\":{stated},\"dependencies\":[{}],",
                chain.join(",")
            ),
            1,
        )
    };
    let hard = r#","estimated_difficulty":"hard""#;
    let medium = r#","estimated_difficulty":"medium""#;
    let easy = r#","estimated_difficulty":"easy""#;
    let typical = [hard, medium, easy, easy, easy];
    let text = plan(90_000, &typical);
    assert_eq!(found(&text), ["OMK-P112 $.estimated_tokens"]);
    assert!(
        messages(&text)
            .contains("the plan states 90000 tokens, and its slices typically take 690000")
    );
    assert!(found(&plan(400_000, &typical)).is_empty());
    let told = r#","estimated_tokens":100000"#;
    assert_eq!(
        found(&plan(150_000, &[told, told])),
        ["OMK-P112 $.estimated_tokens"]
    );
    assert_eq!(
        found(&plan(260_000, &[told, told])),
        ["OMK-P112 $.estimated_tokens"]
    );
    assert!(found(&plan(220_000, &[told, told])).is_empty());
}

#[test]
fn a_list_may_stand_around_an_answer() {
    // A model's prose may have boxes; an answer that begins as JSON is one.
    assert_eq!(
        check(&format!("{GOOD}\n- [ ] T001 x")).format,
        PlanFormat::Omk
    );
    assert_eq!(
        check(&format!("Here is the plan:\n```json\n{GOOD}\n```\n")).format,
        PlanFormat::Omk
    );
    assert_eq!(found(""), ["OMK-P001 $"]);
}

proptest! {
    #[test]
    fn any_text_is_checked_and_always_alike(text in ".{0,60}|[-\\[\\] xTP0-9a-z(){}\":,\n#`<!>./]{0,120}") {
        let checked = check(&text);
        prop_assert_eq!(&checked, &check(&text));
        for finding in checked.findings.list() {
            prop_assert!(finding.at <= text.len());
            prop_assert!(!finding.to_string().contains(char::is_control));
        }
    }

    #[test]
    fn damaged_lists_are_checked(start in 0..LIST.len(), length in 0_usize..40, tasks in any::<bool>()) {
        let whole = if tasks { TASKS } else { LIST };
        let (start, end) = (start.min(whole.len()), (start + length).min(whole.len()));
        let damaged = format!("{}{}", &whole[..start], &whole[end..]);
        prop_assert_eq!(check(&damaged), check(&damaged));
    }
}
