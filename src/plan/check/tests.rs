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
        .contains("a circle: 1 -> 2 -> 1")
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
    assert_eq!(found("- [ ] do it\n"), ["OMK-P007 ", "OMK-P110 "]);
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
